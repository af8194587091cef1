package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"
)

func newToken() *cobra.Command {
	return group(&cobra.Command{
		Use:   "token",
		Short: "Make Secret Tokens",
		Long: "A Secret Token is what a provisioning client presents to the gateway as its bearer token. The configuration\n" +
			"holds only its SHA-256.",
		Example: "  scimgate token new --name entra-2027",
	}, newTokenNew())
}

// tokenBytes is the entropy of a token: its text has 43 characters, far below the 200 that Entra can store safely.
const tokenBytes = 32

var tokenName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func newTokenNew() *cobra.Command {
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a Secret Token and its line for the configuration",
		Long: "Make a Secret Token of 32 random bytes, written as 43 characters of base64url. It is printed once and stored\n" +
			"nowhere: give it to the provisioning client (in Entra: Secret Token), and put its name and SHA-256 under tokens:\n" +
			"of the connection. Two tokens can be valid at a time, so that one can be replaced without an interruption.",
		Example: "  scimgate token new --name entra-2027\n" +
			"  scimgate token new --name entra-2027 --json",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !tokenName.MatchString(name) {
				return usage(cmd, "--name %s: want 1 to 32 of the characters a-z, 0-9 and -", shown(name))
			}
			token := secretToken()
			sum := sha256.Sum256([]byte(token))
			hash := hex.EncodeToString(sum[:])
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Name   string `json:"name"`
					Token  string `json:"token"`
					SHA256 string `json:"sha256"`
				}{name, token, hash})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), `Secret Token, for the provisioning client (it is shown only here):

%s

For the configuration, under tokens: of the connection:

      - name: %s
        sha256: %s
`, token, name, hash)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "entra", "name of the token in the trail")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: name, token, sha256")
	return cmd
}

// secretToken makes a Secret Token.
func secretToken() string {
	var random [tokenBytes]byte
	rand.Read(random[:]) // never fails: the program ends when the system has no randomness
	return base64.RawURLEncoding.EncodeToString(random[:])
}
