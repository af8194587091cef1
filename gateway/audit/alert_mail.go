package audit

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/url"
	"strings"
	"time"
)

// mailNotifier sends a message by mail: SMTP with STARTTLS (RFC 3207), which the server must offer.
type mailNotifier struct {
	address, host string
	tls           *tls.Config
	plain         bool // STARTTLS may be missing
	from          *mail.Address
	to            []*mail.Address
	user          string
	password      func() (string, error)
}

const (
	submissionPort = "587"    // RFC 6409, Section 3.1
	mailAnswers    = 64 << 10 // bytes that a server may say in one conversation
)

// boundedConn reads so much, and no more: a line of an answer has no bound of its own.
type boundedConn struct {
	net.Conn
	left int
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("the server says more than a mail server has to")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func openMail(cfg *AlertConfig, u *url.URL) (Notifier, error) {
	switch {
	case u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return nil, errors.New("want smtp://HOST or smtp://HOST:PORT")
	case cfg.Secret != nil:
		return nil, errors.New("secret is for webhooks: take it out")
	case cfg.From == "" || len(cfg.To) == 0:
		return nil, errors.New("mail needs from and to")
	case (cfg.User == "") != (cfg.Password == nil):
		return nil, errors.New("user and password go together")
	}
	c, err := clientTLS(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	c.ServerName = u.Hostname()
	m := &mailNotifier{
		host: u.Hostname(), address: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), submissionPort)),
		tls: c, plain: cfg.AllowPlainHTTP, user: cfg.User, password: cfg.Password,
	}
	if m.from, err = mail.ParseAddress(cfg.From); err != nil {
		return nil, fmt.Errorf("from is no mail address: %w", err)
	}
	for _, text := range cfg.To {
		to, err := mail.ParseAddress(text)
		if err != nil {
			return nil, fmt.Errorf("to has what is no mail address: %w", err)
		}
		m.to = append(m.to, to)
	}
	return m, nil
}

func (m *mailNotifier) Notify(ctx context.Context, a *Alert) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.address)
	if err != nil {
		return fmt.Errorf("connect to the mail server: %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c, err := smtp.NewClient(&boundedConn{conn, mailAnswers}, m.host)
	if err != nil {
		return fmt.Errorf("greet the mail server: %w", err)
	}
	defer c.Close()
	if err := m.login(c); err != nil {
		return err
	}
	if err := m.send(c, a); err != nil {
		return fmt.Errorf("hand the message to the mail server: %w", err)
	}
	_ = c.Quit() // it was taken
	return nil
}

// login makes the connection secret before anything of worth is said.
func (m *mailNotifier) login(c *smtp.Client) error {
	switch ok, _ := c.Extension("STARTTLS"); {
	case ok:
		if err := c.StartTLS(m.tls); err != nil {
			return fmt.Errorf("STARTTLS: %w", err)
		}
	case !m.plain:
		return errors.New("the mail server does not offer STARTTLS: name another port, or say allowPlainHTTP: true")
	}
	if m.password == nil {
		return nil
	}
	password, err := m.password()
	if err != nil {
		return err
	}
	if err := c.Auth(smtp.PlainAuth("", m.user, password, m.host)); err != nil { // refuses to without TLS, but for localhost
		return fmt.Errorf("log in to the mail server: %w", err)
	}
	return nil
}

func (m *mailNotifier) send(c *smtp.Client, a *Alert) error {
	if err := c.Mail(m.from.Address); err != nil {
		return err
	}
	for _, to := range m.to {
		if err := c.Rcpt(to.Address); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(m.message(a)); err != nil {
		return err
	}
	return w.Close()
}

// message is the mail (RFC 5322). What stands in headers is encoded, so that nothing in it begins another header.
func (m *mailNotifier) message(a *Alert) []byte {
	var random [12]byte
	rand.Read(random[:])
	_, domain, _ := strings.Cut(m.from.Address, "@")
	var to []string
	for _, address := range m.to {
		to = append(to, address.String())
	}
	subject := "scimgate: " + a.Cause
	if a.Connection != "" {
		subject += " (" + a.Connection + ")"
	}
	var b strings.Builder
	for _, h := range [][2]string{
		{"From", m.from.String()}, {"To", strings.Join(to, ",\r\n ")}, {"Subject", mime.QEncoding.Encode("utf-8", subject)},
		{"Date", a.Time.UTC().Format(time.RFC1123Z)}, {"Message-ID", "<" + hex.EncodeToString(random[:]) + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834: nobody's holiday notice answers
		{"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
	} {
		b.WriteString(h[0] + ": " + h[1] + "\r\n")
	}
	b.WriteString("\r\n")
	body := quotedprintable.NewWriter(&b)
	text := fmt.Sprintf("%s\n\nFound at %s, and so since %s.", a.Text, a.Time.UTC().Format(time.RFC3339), a.Since.UTC().Format(time.RFC3339))
	_, _ = body.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n")) // a strings.Builder takes everything
	_ = body.Close()
	return []byte(b.String())
}
