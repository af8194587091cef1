package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
	"scimgate/transform/scim"
)

// Metrics are the process's Prometheus metrics. Labels come from the configuration and from closed lists, never
// from a request, so that their number is bounded.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	calls    *prometheus.HistogramVec
	attempts *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

// NewMetrics makes the metrics of a process over its store.
func NewMetrics(st *store.Store) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scimgate_requests_total", Help: "SCIM requests answered, by operation, action and status.",
		}, []string{"connection", "op", "action", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scimgate_request_seconds", Help: "Time from a request's arrival to its durable outcome.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"connection", "op"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scimgate_upstream_calls_per_request", Help: "Attempts over the wire that one request cost.",
			Buckets: []float64{0, 1, 2, 3, 5, 10, 100},
		}, []string{"connection", "op"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scimgate_upstream_attempts_total", Help: "Attempts over the wire, by operation and status; status 0 is no answer.",
		}, []string{"connection", "op", "status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scimgate_unauthenticated_total", Help: "Requests without a valid Secret Token.",
		}, []string{"connection"}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.calls, m.attempts, m.refused,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("scimgate_trail_healthy", "1 while the trail can be written.", nil, func() float64 {
			if st.Healthy() != nil {
				return 0
			}
			return 1
		}))
	return m
}

func gauge(name, help string, labels prometheus.Labels, value func() float64) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)
}

// WatchSigning adds whether the trail is signed; unsigned says why it is not.
func (m *Metrics) WatchSigning(unsigned func() error) {
	m.registry.MustRegister(gauge("scimgate_trail_signed", "1 while checkpoints of the trail are signed.", nil, func() float64 {
		if unsigned() != nil {
			return 0
		}
		return 1
	}))
}

// Watch adds the state of a connection's upstream.
func (m *Metrics) Watch(connection string, c *upstream.Client) {
	labels := prometheus.Labels{"connection": connection}
	m.registry.MustRegister(
		gauge("scimgate_upstream_queued", "Requests that wait for admission.", labels, func() float64 { return float64(c.State().Queued) }),
		gauge("scimgate_upstream_in_flight", "Attempts under way.", labels, func() float64 { return float64(c.State().InFlight) }),
		gauge("scimgate_upstream_breaker_open", "1 while the circuit is open, 0.5 while it is probed.", labels, func() float64 {
			return map[string]float64{"open": 1, "half-open": 0.5}[c.State().Breaker]
		}),
	)
}

// WatchSinks adds the state of the trail's sinks.
func (m *Metrics) WatchSinks(feeds *audit.Feeds) {
	for i, s := range feeds.States() {
		labels := prometheus.Labels{"sink": s.Name}
		m.registry.MustRegister(
			gauge("scimgate_sink_healthy", "1 while nothing is known to be wrong with the sink.", labels, func() float64 {
				if feeds.States()[i].Problem != "" {
					return 0
				}
				return 1
			}),
			gauge("scimgate_sink_taken", "Place in the trail of the last record that the sink took.", labels, func() float64 {
				return float64(feeds.States()[i].Taken)
			}),
		)
	}
}

// Attempt counts what went over the wire to the upstream of a connection.
func (m *Metrics) Attempt(connection string) func(scim.Op, scim.Attempt) {
	return func(op scim.Op, a scim.Attempt) {
		m.attempts.WithLabelValues(connection, string(op), statusLabel(a.Status)).Inc()
	}
}

func (m *Metrics) answered(connection string, x *exchange) {
	op := x.rec.Op
	if op == "" {
		op = "none"
	}
	m.requests.WithLabelValues(connection, op, x.rec.Action, statusLabel(x.rec.Answer.Status)).Inc()
	m.duration.WithLabelValues(connection, op).Observe(time.Since(x.started).Seconds())
	m.calls.WithLabelValues(connection, op).Observe(float64(x.calls))
}

// statusLabel bounds the label: an upstream may answer with any number.
func statusLabel(status int) string {
	if http.StatusText(status) == "" && status != 0 {
		return "other"
	}
	return strconv.Itoa(status)
}

func (m *Metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
