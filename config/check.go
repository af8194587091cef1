package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strconv"
	"time"
	"unicode/utf8"

	"scimgate/config/profile"
	"scimgate/config/secret"
)

const (
	minToken    = 16  // characters; shorter ones can be guessed
	maxToken    = 200 // Entra shares about 1 KB between credentials and e-mail addresses
	maxWait     = 5 * time.Minute
	maxDuration = 10 * time.Minute
	maxPEM      = 1 << 20 // bytes
)

var (
	variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	tokenForm    = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`) // b64token of RFC 6750, Section 2.1
	hashForm     = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
	sizeForm     = regexp.MustCompile(`^([0-9]{1,9})(KiB|MiB|GiB)$`)
	hostForm     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$`)
	pathForm     = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)
)

// address returns text if it is host:port to listen on, else "". An empty host is every interface.
func address(text string, problemf complain) string {
	if text == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(text)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host != "" && net.ParseIP(host) == nil && !hostForm.MatchString(host) {
		problemf("want host:port such as 127.0.0.1:8080, got %s", profile.Quote(text))
		return ""
	}
	return text
}

// duration reads a Go duration from low to high.
func duration(v profile.Value, low, high time.Duration) time.Duration {
	if !v.IsText() {
		v.Problemf("want a duration with its unit, such as 10s or 1m30s")
		return low
	}
	text := v.Text()
	if text == "" {
		return low
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < low || d > high {
		v.Problemf("want a duration from %v to %v such as 10s or 1m30s, got %s", low, high, profile.Quote(text))
		return low
	}
	return d
}

// size reads a number of bytes from low to high, a number or a text such as 256KiB.
func size(v profile.Value, low, high int64) int64 {
	if !v.IsText() {
		return int64(v.Int(int(low), int(high)))
	}
	text := v.Text()
	if text == "" {
		return low
	}
	if m := sizeForm.FindStringSubmatch(text); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 64)
		n *= map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[m[2]]
		if err == nil && low <= n && n <= high {
			return n
		}
	}
	v.Problemf("want a size from %s to %s, got %s", sizeText(low), sizeText(high), profile.Quote(text))
	return low
}

func sizeText(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprintf("%dKiB", n>>10)
}

// checkToken says what is wrong with a token that others present to us. It does not show the token.
func checkToken(s secret.Secret) error {
	text := s.Reveal()
	if n := utf8.RuneCountInString(text); n < minToken || n > maxToken {
		return fmt.Errorf("the token has %d characters, want %d to %d: `scimgate token new` makes one", n, minToken, maxToken)
	}
	if !tokenForm.MatchString(text) {
		return errors.New("the token has characters that cannot travel as a bearer token (RFC 6750, Section 2.1): `scimgate token new` makes one")
	}
	return nil
}

// readHash reads the SHA-256 of a token. What does not look like one is not shown: it may be the token.
func readHash(v profile.Value) (sum [32]byte) {
	text := v.Text()
	switch {
	case text == "":
		return sum
	case !hashForm.MatchString(text):
		v.Problemf("want the 64 hexadecimal digits of a SHA-256, as `scimgate token new` prints them")
		return sum
	}
	if _, err := hex.Decode(sum[:], []byte(text)); err != nil {
		v.Problemf("%v", err)
	}
	if sum == sha256.Sum256(nil) {
		v.Problemf("this is the SHA-256 of an empty text: was the variable that should hold the token empty?")
	}
	return sum
}

// keyPair checks that the files of t can be read and belong together.
func (r *reader) keyPair(t TLS, problemf complain) {
	cert, err := readPEM(t.Cert)
	if err != nil {
		problemf("certificate %s cannot be read: %s", t.Cert, reason(err))
	}
	key, keyErr := readPEM(t.Key)
	if keyErr != nil {
		problemf("key %s cannot be read: %s", t.Key, reason(keyErr))
	}
	if err != nil || keyErr != nil {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		problemf("certificate %s and key %s do not work together: %v", t.Cert, t.Key, err)
	}
	if warning := secret.File(t.Key).Warning(); warning != "" {
		r.warnings = append(r.warnings, warning)
	}
}

// certificates checks that the file at path has certificates to trust.
func certificates(path string, problemf complain) {
	pem, err := readPEM(path)
	switch {
	case err != nil:
		problemf("%s cannot be read: %s", path, reason(err))
	case !x509.NewCertPool().AppendCertsFromPEM(pem):
		problemf("%s has no PEM certificate", path)
	}
}

func readPEM(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a FIFO would block
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if len(pem) > maxPEM {
		return nil, fmt.Errorf("larger than %s", sizeText(maxPEM))
	}
	return pem, err
}

// reason returns what is wrong with a file, without its path.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
