package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"scimgate/config"
	"scimgate/config/profile"
)

func newHealth(env func(string) string) *cobra.Command {
	var base string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running gateway whether it is ready",
		Long: "GET /readyz of the admin listener: exit code 0 when the gateway is ready, 1 when it is not or does not answer. This\n" +
			"is for the HEALTHCHECK of a container that has nothing else to ask with.\n\n" +
			"Without --url the address is SCIMGATE_ADMIN_LISTEN, or else " + config.DefaultAdminListen + ". No token is sent. Of a listener on\n" +
			"loopback the certificate is not verified: it is made out to another name.",
		Example: "  scimgate health\n  scimgate health --url https://127.0.0.1:9090 --timeout 2s",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if base == "" {
				base = adminURL(env("SCIMGATE_ADMIN_LISTEN"))
			}
			target, err := profile.BaseURL(base, true)
			if err != nil {
				return usage(cmd, "--url %s: %w", shown(base), err)
			}
			if timeout <= 0 {
				return usage(cmd, "--timeout %v: want more than 0s", timeout)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return health(ctx, cmd.OutOrStdout(), strings.TrimSuffix(target, "/readyz")+"/readyz")
		},
	}
	cmd.Flags().StringVar(&base, "url", "", "base URL of the admin listener (default: from SCIMGATE_ADMIN_LISTEN)")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	return cmd
}

// adminURL is how a listener's address is reached from the same machine.
func adminURL(listen string) string {
	if listen == "" {
		listen = config.DefaultAdminListen
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen // the URL's reader says what is wrong with it
	}
	if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		host = "127.0.0.1"
		if err == nil && a.Is6() {
			host = "::1"
		}
	}
	return "http://" + net.JoinHostPort(host, port)
}

// maxReadiness bounds the body of the answer.
const maxReadiness = 64 << 10

func health(ctx context.Context, w io.Writer, target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	client := http.Client{
		// No proxy: the container's own variables must not lead this away.
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: profile.IsLoopback(u.Hostname())},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return fmt.Errorf("%s does not answer: %w: is `scimgate serve` running, with its admin listener there?", target, err)
	}
	defer res.Body.Close()
	var answer struct {
		Status string `json:"status"`
		Trail  string `json:"trail"`
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReadiness))
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || answer.Status == "" {
		return fmt.Errorf("%s answered %d, but not as a gateway's admin listener does: is it another program's, or does it want https?", target, res.StatusCode)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", shown(answer.Status), shown(answer.Trail))
	}
	_, err = fmt.Fprintln(w, shown(answer.Status))
	return err
}
