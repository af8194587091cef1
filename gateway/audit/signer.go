package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Signer signs the checkpoints of one trail with an Ed25519 key. The key's name, which is made with it, is the trail's
// name too: the origin of its checkpoints.
type Signer struct {
	signer note.Signer
	public string
}

// signerName begins the name of every key; eight random hex digits follow.
const signerName = "scimgate.trail/"

// signerSize bounds the text of a key, which has some 100 bytes.
const signerSize = 1024

// LoadSigner returns the signer whose private key is in the file at path.
func LoadSigner(path string) (*Signer, error) {
	text, err := readKeyText(path)
	if err != nil {
		return nil, fmt.Errorf("read the key that signs the trail: %w", err)
	}
	s, err := newSigner(text)
	if err != nil {
		return nil, fmt.Errorf("the key that signs the trail, %s, cannot be used: %w; restore it from a backup", path, err)
	}
	return s, nil
}

// LoadOrCreateSigner is LoadSigner, but makes a key, in a file of mode 0600, where there is none. The file appears
// complete or not at all. It is for trails without a checkpoint only: a trail that is signed by one key cannot be carried
// on by another.
func LoadOrCreateSigner(path string) (*Signer, error) {
	s, err := LoadSigner(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	var random [4]byte
	rand.Read(random[:])
	private, _, err := note.GenerateKey(rand.Reader, signerName+hex.EncodeToString(random[:]))
	if err == nil {
		err = createFile(path, []byte(private+"\n"))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create the key that signs the trail: %w; make the folder writable", err)
	}
	return LoadSigner(path) // also when another process was faster
}

func newSigner(private string) (*Signer, error) {
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, err
	}
	// PRIVATE+KEY+name+hash+base64 of the algorithm, 1, and the seed; base64 has a plus of its own.
	parts := strings.SplitN(private, "+", 5)
	key, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(key) != 1+ed25519.SeedSize {
		return nil, errors.New("it is not an Ed25519 key")
	}
	public, ok := ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("it has no public half")
	}
	text, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, err
	}
	return &Signer{signer: signer, public: text}, nil
}

// Name is the name of the key and of the trail.
func (s *Signer) Name() string { return s.signer.Name() }

// PublicKey is the text form of the public key: NAME+HASH+KEY.
func (s *Signer) PublicKey() string { return s.public }

// WritePublicKey puts the public key into a file of mode 0644, unless it stands there already.
func (s *Signer) WritePublicKey(path string) error {
	if text, err := readKeyText(path); err == nil && text == s.public {
		return nil
	}
	if err := os.WriteFile(path, []byte(s.public+"\n"), 0o644); err != nil {
		return fmt.Errorf("write the trail's public key: %w; make the folder writable", err)
	}
	return nil
}

// PublicKey verifies what a Signer signed.
type PublicKey struct{ verifier note.Verifier }

// ParsePublicKey reads the text form of a public key.
func ParsePublicKey(text string) (*PublicKey, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "PRIVATE+KEY+") {
		return nil, errors.New("this is the private key: whoever verifies needs, and should have, the public one only")
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, errors.New("this is not a public key: one begins with " + signerName + " and is printed by `scimgate audit public-key`")
	}
	return &PublicKey{v}, nil
}

// LoadPublicKey reads a public key from a file.
func LoadPublicKey(path string) (*PublicKey, error) {
	text, err := readKeyText(path)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	k, err := ParsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// Name is the name of the key with its hash, which tells two keys of one name apart.
func (k *PublicKey) Name() string {
	return fmt.Sprintf("%s+%08x", k.verifier.Name(), k.verifier.KeyHash())
}

// readKeyText reads a key file without its line end.
func readKeyText(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, signerSize+1))
	if err != nil {
		return "", err
	}
	if len(text) > signerSize {
		return "", fmt.Errorf("%s is too long to be a key", path)
	}
	return strings.TrimSpace(string(text)), nil
}
