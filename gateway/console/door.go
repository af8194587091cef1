package console

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	cookieName = "scimgate-console"
	mostForm   = 4 << 10 // bytes of a form; an admin token has 200 at most
)

// Actions of the events that signing in leaves in the trail.
const (
	signedIn      = "signed-in"
	signInRefused = "sign-in-refused"
)

// headers puts on every answer what keeps a browser from doing more than show the page. The referrer stays within the
// console rather than be withheld, because with no referrer at all browsers send `Origin: null`.
func (c *Console) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// refuseForeign refuses what another site made a browser ask for: requests under a name that is not ours, with an Origin
// that is not ours, and, for what changes anything, of another site by the browser's own word (Sec-Fetch-Site).
func (c *Console) refuseForeign(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !c.ownHost(r.Host) {
			http.Error(w, "This console is not known under the name in the address. Open it by its IP address or as localhost.", http.StatusMisdirectedRequest)
			return
		}
		origins := r.Header.Values("Origin")
		if len(origins) > 0 {
			u, err := url.Parse(origins[0])
			if err != nil || len(origins) > 1 || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
				http.Error(w, "This request comes from another site, and is refused.", http.StatusForbidden)
				return
			}
		}
		site := r.Header.Get("Sec-Fetch-Site")
		if r.Method != http.MethodGet && r.Method != http.MethodHead && (site != "" && site != "same-origin" || site == "" && len(origins) == 0) {
			http.Error(w, "This request does not come from the console, and is refused.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownHost reports whether a Host header may name this console. An address cannot be rebound; a name can.
func (c *Console) ownHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return strings.EqualFold(name, "localhost") || slices.ContainsFunc(c.cfg.Hosts, func(own string) bool { return strings.EqualFold(own, name) })
}

// complaint is said once a minute at most: what strangers or live pages ask for must not fill the log.
type complaint struct{ last atomic.Int64 } // nanoseconds since 1970

func (o *complaint) say(now time.Time, log func()) {
	if last, at := o.last.Load(), now.UnixNano(); at-last >= int64(time.Minute) && o.last.CompareAndSwap(last, at) {
		log()
	}
}

// token returns the admin token; "" while there is none.
func (c *Console) token() string {
	if c.cfg.Token == nil {
		return ""
	}
	token, err := c.cfg.Token()
	if err != nil {
		c.tokenless.say(c.cfg.Clock(), func() {
			c.cfg.Logger.Error("the admin token cannot be read: nobody can sign in to the console", "error", err)
		})
		return ""
	}
	return token
}

// signedIn reports whether a request comes from somebody who has signed in, and counts as use of the session.
func (c *Console) signedIn(r *http.Request) bool { return c.hasSession(r, true) }

// goesOn is signedIn for streams: a page that nobody looks at must not keep its reader signed in.
func (c *Console) goesOn(r *http.Request) bool { return c.hasSession(r, false) }

func (c *Console) hasSession(r *http.Request, used bool) bool {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return false
	}
	token := c.token()
	return token != "" && c.sessions.valid(cookie.Value, token, used)
}

// needsSession sends whoever has not signed in to the page for it, and back afterwards.
func (c *Console) needsSession(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.signedIn(r) {
			next.ServeHTTP(w, r)
			return
		}
		if strings.HasPrefix(r.URL.Path, Base+"live/") {
			http.Error(w, "Sign in to the console first.", http.StatusUnauthorized)
			return
		}
		to := Base + "sign-in"
		if (r.Method == http.MethodGet || r.Method == http.MethodHead) && (r.URL.Path != Base || r.URL.RawQuery != "") {
			to += "?next=" + url.QueryEscape(r.URL.RequestURI())
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	})
}

// signInView is the page for signing in.
type signInView struct {
	Next     string
	Problem  string
	NoTokens bool // none is configured
}

func (c *Console) signInPage(w http.ResponseWriter, r *http.Request) {
	if c.signedIn(r) {
		http.Redirect(w, r, local(r.URL.Query().Get("next")), http.StatusSeeOther)
		return
	}
	c.render(w, r, http.StatusOK, "sign-in", "Sign in", "", signInView{Next: local(r.URL.Query().Get("next")), NoTokens: c.token() == ""})
}

func (c *Console) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	if err := r.ParseForm(); err != nil {
		c.render(w, r, http.StatusBadRequest, "sign-in", "Sign in", "", signInView{Next: Base, Problem: "The form could not be read. Try again."})
		return
	}
	view := signInView{Next: local(r.PostForm.Get("next"))}
	token := c.token()
	if token == "" {
		view.NoTokens = true
		c.render(w, r, http.StatusForbidden, "sign-in", "Sign in", "", view)
		return
	}
	source := sourceOf(r)
	if wait, ok := c.attempts.take(source); !ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		view.Problem = "Too many attempts. Wait a minute, then try again."
		c.render(w, r, http.StatusTooManyRequests, "sign-in", "Sign in", "", view)
		return
	}
	id, ok := c.sessions.open(strings.TrimSpace(r.PostForm.Get("token")), token)
	if !ok {
		c.cfg.Event(signInRefused, "console, from "+source)
		view.Problem = "That is not the admin token. It stands in the gateway's configuration under admin.token, or in SCIMGATE_ADMIN_TOKEN."
		c.render(w, r, http.StatusForbidden, "sign-in", "Sign in", "", view)
		return
	}
	c.attempts.refund(source)
	c.cfg.Event(signedIn, "console, from "+source)
	http.SetCookie(w, c.cookie(r, id, int(sessionAge/time.Second)))
	http.Redirect(w, r, view.Next, http.StatusSeeOther)
}

func (c *Console) signOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		c.sessions.close(cookie.Value)
	}
	http.SetCookie(w, c.cookie(r, "", -1))
	http.Redirect(w, r, Base+"sign-in", http.StatusSeeOther)
}

func (c *Console) cookie(r *http.Request, id string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: id, Path: Base, MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// Behind a proxy that ends TLS only the browser knows: it is the one to be held to it.
		Secure: r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://"),
	}
}

// local is where to go after signing in: a page of the console, whatever the address says.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(next, Base) || strings.ContainsAny(next, "\\\r\n") ||
		strings.Contains(u.Path, "..") || strings.HasPrefix(u.Path, Base+"live/") || strings.HasPrefix(u.Path, Base+"sign-") {
		return Base
	}
	return u.RequestURI()
}

// sourceOf is the address that a request comes from, without its port.
func sourceOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
