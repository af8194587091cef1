package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"scimgate/transform/scim"
)

// message is a request as it was given to explain.
type message struct {
	method string
	path   string // escaped, perhaps with the connection's base path
	query  string
	header http.Header
	body   []byte
}

// anyID stands for the id of an existing resource where the input does not say which.
const (
	anyID        = "{id}"
	anyIDEscaped = "%7Bid%7D"
)

// maxInput is more than any body that a configuration may admit, in bytes.
const maxInput = 17 << 20

var (
	requestLine = regexp.MustCompile(`^([A-Za-z]{1,16})[ \t]+([^ \t].*?)(?:[ \t]+HTTP/[0-9](?:\.[0-9])?)?[ \t]*$`)
	headerLine  = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$")
)

// readMessage reads standard input. Every error is a usageError: there is no request to explain.
func readMessage(cmd *cobra.Command, f *explainFlags) (*message, error) {
	if _, ok := terminal(cmd.InOrStdin()); ok {
		fmt.Fprintln(cmd.ErrOrStderr(), "Type or paste a request, then press Ctrl-D.")
	}
	input, err := readInput(cmd.Context(), cmd.InOrStdin())
	switch {
	case errors.Is(err, context.Canceled):
		return nil, err
	case err != nil:
		return nil, usage(cmd, "read standard input: %w", err)
	case len(input) > maxInput:
		return nil, usage(cmd, "the input is larger than %d MiB", maxInput>>20)
	}
	msg, err := parseMessage(input, f.method, f.path)
	if err != nil {
		return nil, usage(cmd, "%w", err)
	}
	return msg, nil
}

// readInput reads at most one byte more than maxInput. It returns when ctx ends, also while a terminal is silent.
func readInput(ctx context.Context, r io.Reader) ([]byte, error) {
	done := make(chan struct{})
	var read []byte
	var failed error
	go func() {
		defer close(done)
		read, failed = io.ReadAll(io.LimitReader(r, maxInput+1))
	}()
	select {
	case <-done:
		return read, failed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// parseMessage makes a message of an input; method and path, where they are not "", take the place of what it says.
func parseMessage(input []byte, method, path string) (*message, error) {
	msg := &message{header: http.Header{}}
	input = bytes.TrimLeft(bytes.TrimPrefix(input, []byte("\ufeff")), " \t\r\n")
	var target string
	var err error
	switch {
	case len(input) == 0 && method != "" && path != "":
	case len(input) == 0:
		return nil, fmt.Errorf("standard input is empty: it holds an HTTP request as text, or a JSON body")
	case input[0] == '{' && method != "" && path != "":
		msg.body = input
	case input[0] == '{':
		msg.body = input
		msg.method, target, err = guess(input, method, path)
	default:
		target, err = msg.parseHTTP(input)
	}
	if err != nil {
		return nil, err
	}
	if method != "" {
		msg.method = method
	}
	if path != "" {
		target = path
	}
	msg.method = strings.ToUpper(msg.method)
	if scheme, rest, ok := strings.Cut(target, "://"); ok && !strings.Contains(scheme, "/") {
		_, below, _ := strings.Cut(rest, "/")
		target = "/" + below
	}
	msg.path, msg.query, _ = strings.Cut(target, "?")
	if !strings.HasPrefix(msg.path, "/") {
		return nil, fmt.Errorf("the path %s does not begin with a slash", shown(msg.path))
	}
	return msg, nil
}

// parseHTTP reads an HTTP request as people write it down.
func (m *message) parseHTTP(input []byte) (target string, err error) {
	line, rest := cutLine(input)
	parts := requestLine.FindSubmatch(line)
	if parts == nil {
		return "", fmt.Errorf("line 1 is neither a request line such as POST /Users nor the { of a JSON body")
	}
	m.method, target = string(parts[1]), string(parts[2])
	for number := 2; len(rest) > 0; number++ {
		if rest[0] == '{' { // the blank line was forgotten
			break
		}
		line, rest = cutLine(rest)
		if len(bytes.TrimSpace(line)) == 0 {
			break
		}
		header := headerLine.FindSubmatch(line)
		if header == nil {
			return "", fmt.Errorf("line %d is not a header (Name: value); a blank line stands between headers and body", number)
		}
		m.header.Add(string(header[1]), string(header[2]))
	}
	m.body = bytes.TrimSpace(rest)
	return target, nil
}

func cutLine(text []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(text, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest
}

// guess tells which request a JSON body alone belongs to. method and path may be "".
func guess(body []byte, method, path string) (string, string, error) {
	object, err := scim.DecodeObject(body)
	if err != nil {
		return "", "", fmt.Errorf("standard input cannot be read: %s", scim.Detail(err))
	}
	list, _ := object["schemas"].([]any)
	has := func(urn string) bool {
		return slices.ContainsFunc(list, func(v any) bool { s, ok := v.(string); return ok && strings.EqualFold(s, urn) })
	}
	endpoint := scim.UserType().Endpoint
	switch {
	case has(scim.MessagePatchOp):
		return "PATCH", endpoint + "/" + anyID, nil
	case has(scim.SchemaUser), has(scim.SchemaEnterpriseUser):
	case has(scim.SchemaGroup):
		endpoint = scim.GroupType().Endpoint
	case path == "":
		return "", "", fmt.Errorf("schemas does not say what this body is: a PatchOp, a User or a Group; or say --method and --path")
	}
	if method != "" && !strings.EqualFold(method, http.MethodPost) {
		endpoint += "/" + anyID
	}
	return "POST", endpoint, nil
}

// http is the message as the gateway's listener would see it.
func (m *message) http() *http.Request {
	return &http.Request{
		Method: m.method, URL: &url.URL{Path: "/", RawQuery: m.query}, Header: m.header,
		Body: io.NopCloser(bytes.NewReader(m.body)), ContentLength: int64(len(m.body)),
	}
}
