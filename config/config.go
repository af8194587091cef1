// Package config reads the configuration file and the environment into a Config.
//
// The file is YAML; its keys are the fields of Config and of the types below, written in camelCase (PublicURL is
// publicURL, TLS is tls, CAFile is caFile), and the comments here are its documentation. Example returns a file to
// start from. Reading is strict, and every mistake is reported at once with its line and column. Secrets never
// stand in the file: it names files or environment variables that hold them, or has their SHA-256.
//
// A configuration that was read is known to work as far as this machine can tell: key pairs match, files of secrets
// can be read, profiles are free of contradictions. The package does not listen, connect or write anything.
package config

import (
	_ "embed"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"scimgate/config/profile"
	"scimgate/config/secret"
)

// Config is a whole configuration. Every path in it is as it is to be opened: paths in the file are relative to the
// file's folder, paths in the environment to the working directory.
type Config struct {
	// Listen is the address of the SCIM listener, host:port. Default: 127.0.0.1:8080.
	Listen string
	// PublicURL is how clients reach the gateway: scheme://host[:port], without a path. It begins every
	// meta.location. Default: "", the Host of each request.
	PublicURL string
	// AllowPlainHTTP accepts a PublicURL with http on a host other than loopback. Default: false.
	AllowPlainHTTP bool
	// TLS is the certificate of the SCIM listener. Default: none, plain HTTP.
	TLS TLS
	// Admin is the listener for health, readiness and metrics.
	Admin Admin
	// Database is the path of the SQLite file with the trail and the identity map. Default: scimgate.db, beside the
	// configuration file if there is one.
	Database string
	// KeyFile is the path of the key for the keyed hashes (HMAC) in the trail. Default: Database + ".key". Beside it, with
	// .key replaced, stand the .master-key that the keys of sealed values are wrapped under, the key that signs the trail
	// (.signing-key), the .public-key and the newest .checkpoint. All are created at the first start, the secret ones with
	// mode 0600: each database needs a KeyFile of its own.
	KeyFile string
	// Privacy is how attribute values stand in the trail.
	Privacy Privacy
	// Log is what is logged and how.
	Log Log
	// Limits bound what the SCIM listener takes on.
	Limits Limits
	// Connections are the pairs of a path that clients use and an upstream behind it, 1 to 64. The list is empty
	// when there is neither a file nor a variable that configures a connection: then see Simulate.
	Connections []Connection
	// Sinks are where the trail goes beside the database, up to 16. Default: none.
	Sinks []Sink
	// Alerts are who is told when something is wrong, up to 16. Default: none.
	Alerts []Alert

	// Simulate is the profile for an embedded simulator, SCIMGATE_PROFILE or bluejeans. It is set only when
	// Connections is empty, and has no key in the file.
	Simulate *profile.Profile
	// Warnings deserve a line in the log at start although they are no mistakes, such as a file of secrets that
	// everybody may read. No key in the file.
	Warnings []string
}

// TLS names the files of a certificate: both or none. The zero TLS is plain HTTP.
type TLS struct {
	Cert string // path of the PEM certificate chain, the server's own first
	Key  string // path of its PEM private key
}

// Admin is the admin listener.
type Admin struct {
	// Listen is its address, host:port. Default: 127.0.0.1:9090.
	Listen string
	// Token gives the bearer token of the admin listener, 16 to 200 characters. Required when Listen is not on
	// loopback; nil otherwise means that none is asked for, and that nobody can sign in to the console.
	Token *secret.Source
	// Hosts are names, without port, under which the listener is reached, beside localhost and IP addresses: under others
	// only health answers. Default: none.
	Hosts []string
	// TLS is the listener's certificate. Default: none, plain HTTP.
	TLS TLS
}

// Log is what is logged and how.
type Log struct {
	// Level is the lowest level that is logged: debug, info, warn or error. Default: info.
	Level slog.Level
	// Format is json, text, or auto: text on a terminal, else JSON. Default: auto.
	Format string
}

// Limits bound what the SCIM listener takes on. Sizes are in bytes; the file may say 256KiB.
type Limits struct {
	// Body is the largest request body, 1KiB to 16MiB. Default: 256KiB.
	Body int64
	// Concurrent is how many requests are admitted at a time, 1 to 65536. Default: 256.
	Concurrent int
	// Wait is how long a request waits to be admitted before it is answered 429, 0s to 5m. Default: 10s.
	Wait time.Duration
	// DrainTimeout is how long a stopping gateway lets admitted requests finish, 0s to 10m. Default: 15s.
	DrainTimeout time.Duration
}

// Connection is a path that provisioning clients use and the upstream behind it.
type Connection struct {
	// Name appears in the trail: 1 to 32 of a-z, 0-9 and "-". Required and unique. From the environment: default.
	Name string
	// Path is the SCIM base path. No path may be another's beginning. Default: /scim/v2; required when there are
	// several connections.
	Path string
	// Tokens are the Secret Tokens that clients may present, 1 to 4: two at a time make a rotation.
	Tokens []Token
	// Profile is what the upstream can do: in the file the name of a built-in profile or the path of one, with the
	// connection's overrides applied (see profile.Override). Default: bluejeans.
	Profile *profile.Profile
	// Upstream is how the upstream is called.
	Upstream Upstream

	Line, Column int // position in the file; 0 when it comes from the environment
}

// Token is a Secret Token as the gateway knows it: by its hash. In the file a token has name and exactly one of
// sha256 (64 hexadecimal digits, what `scimgate token new` prints), file (a path) and env (a variable's name); the
// latter two hold the token itself, 16 to 200 characters of RFC 6750, Section 2.1, and are read once.
type Token struct {
	// Name tells the tokens apart in the trail: 1 to 32 of a-z, 0-9 and "-". Required and unique in the connection.
	Name string
	// SHA256 is the SHA-256 of the token.
	SHA256 [32]byte
	// Expires is when it stops being accepted, in RFC 3339: 2027-01-31T00:00:00Z. Default: zero, never.
	Expires time.Time
}

// Upstream is how an upstream is called. HTTP proxies come from the environment (HTTPS_PROXY, NO_PROXY).
type Upstream struct {
	// URL is the upstream's base URL: https, or http on loopback. Default: the profile's; required if it has none.
	URL string
	// AllowPlainHTTP accepts http on any host. Default: false.
	AllowPlainHTTP bool
	// Token gives the bearer token for the upstream. In the file: {file: PATH} or {env: NAME}. Required.
	Token *secret.Source
	// CAFile is the path of PEM certificates to trust beside the system's. Default: "", the system's only.
	CAFile string
	// RequestsPerSecond is the pace, up to 10000. Default, and when 0: the profile's, where 0 is no pacing.
	RequestsPerSecond float64
	// InFlight is the largest number of calls at a time, 1 to 1024. Default: the profile's.
	InFlight int
	// Queue is how many requests may wait for the pace, 0 to 100000. Default: 256.
	Queue int
	// QueueWait is how long one waits, 0s to 10m and at most Deadline. Default: 20s, or Deadline if shorter.
	QueueWait time.Duration
	// Timeout is the time for one attempt, 10ms to 10m and at most Deadline. Default: 10s, or Deadline if shorter.
	Timeout time.Duration
	// Deadline is the time for the whole exchange with waiting and retries, 10ms to 10m. Default: 25s.
	Deadline time.Duration
	// MaxBody is the largest answer that is read, in bytes, 1KiB to 256MiB. Default: 8MiB.
	MaxBody int64
}

// Defaults, where they are not the profile's.
const (
	DefaultListen       = "127.0.0.1:8080"
	DefaultAdminListen  = "127.0.0.1:9090"
	DefaultDatabase     = "scimgate.db"
	DefaultPath         = "/scim/v2"
	DefaultProfile      = "bluejeans"
	DefaultLogFormat    = "auto"
	DefaultBody         = 256 << 10
	DefaultConcurrent   = 256
	DefaultWait         = 10 * time.Second
	DefaultDrainTimeout = 15 * time.Second
	DefaultQueue        = 256
	DefaultQueueWait    = 20 * time.Second
	DefaultTimeout      = 10 * time.Second
	DefaultDeadline     = 25 * time.Second
	DefaultMaxBody      = 8 << 20
)

//go:embed example.yaml
var example string

// Example returns an annotated configuration file to start from.
func Example() string { return example }

// Load reads the configuration file at path, or the environment alone when path is "" and SCIMGATE_CONFIG does not
// name a file. env is os.Getenv. The error is of type profile.Problems and has every mistake; one in a variable has
// the variable's name in the place of a file's.
//
// With a file, the variables SCIMGATE_LISTEN, SCIMGATE_ADMIN_LISTEN, SCIMGATE_DATABASE, SCIMGATE_TLS_CERT and
// SCIMGATE_TLS_KEY override what it says. Any other variable of the environment contract that the file does not
// refer to (env: NAME) is a Problem, for it would be ignored.
func Load(path string, env func(string) string) (*Config, error) {
	if path == "" {
		path = env("SCIMGATE_CONFIG")
	}
	if path == "" {
		return fromEnvironment(env)
	}
	src, err := readConfig(path)
	if err != nil {
		return nil, profile.Problems{{File: path, Message: "cannot be read: " + reason(err)}}
	}
	return Parse(path, src, env)
}

// readConfig reads one byte more than a configuration may have, to see that it is too much. Unlike the files that a
// configuration names it may be a pipe.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, profile.MaxFile+1))
}

// Parse is Load for the text src of a file. Relative paths in src are relative to file's folder.
func Parse(file string, src []byte, env func(string) string) (*Config, error) {
	r := &reader{env: env, file: file, dir: filepath.Dir(file)}
	c := defaults()
	if v, ok := profile.Read(file, src, &r.problems); ok {
		r.config(c, v)
	}
	return r.result(c)
}

func defaults() *Config {
	return &Config{
		Listen:  DefaultListen,
		Admin:   Admin{Listen: DefaultAdminListen},
		Privacy: Privacy{Seal: true},
		Log:     Log{Level: slog.LevelInfo, Format: DefaultLogFormat},
		Limits:  Limits{Body: DefaultBody, Concurrent: DefaultConcurrent, Wait: DefaultWait, DrainTimeout: DefaultDrainTimeout},
	}
}
