package profile

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// BaseURL checks the base URL of a service and returns it without a slash at its end. It wants https, for bearer
// tokens travel there; http is for a loopback host, or any host when plain is set. User, query and fragment have no
// place in a base URL. The error does not show the URL, which may hold a password.
func BaseURL(text string, plain bool) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", errors.New("not a URL: want https://host/path")
	case u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.Hostname() == "":
		return "", errors.New("want a whole URL, https://host/path")
	case u.User != nil:
		return "", errors.New("no user or password may stand in a URL: give the credentials by file or environment")
	case u.RawQuery != "" || u.ForceQuery:
		return "", errors.New("a base URL has no query: take out everything from the ? on")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return "", errors.New("a base URL has no fragment: take out everything from the # on")
	case u.Scheme == "http" && !plain && !IsLoopback(u.Hostname()):
		return "", errors.New("want https: over http everybody on the way reads the token (allowPlainHTTP: true accepts that, where it is offered)")
	}
	return strings.TrimRight(text, "/"), nil
}

// IsLoopback reports whether host, a name or an address without brackets, means this machine only:
// 127.0.0.0/8, ::1 or localhost.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
