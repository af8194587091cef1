package audit

import "testing"

// The forecast changes exactly at Entra's thresholds.
func TestForecast(t *testing.T) {
	for _, tc := range []struct {
		cycle Cycle
		want  Forecast
	}{
		{Cycle{}, Forecast{NoRisk, 40_000, 0}},
		{Cycle{Requests: 19, Failures: 19}, Forecast{NoRisk, 5_000, 0}},
		{Cycle{Requests: 40, Failures: 20}, Forecast{TowardsQuarantine, 5_000, 0}},
		{Cycle{Requests: 100, Failures: 40}, Forecast{NoRisk, 40_000, 0}}, // 40 % is not more than 40 %
		{Cycle{Requests: 10_000, Failures: 4_999}, Forecast{TowardsQuarantine, 5_000, 99}},
		{Cycle{Requests: 10_000, Failures: 5_000}, Forecast{Quarantined, 5_000, 100}},
		{Cycle{Requests: 12_500, Failures: 5_000}, Forecast{NoRisk, 40_000, 12}},
		{Cycle{Requests: 100_000, Failures: 20_000}, Forecast{ManyFailures, 40_000, 50}},
		{Cycle{Requests: 200_000, Failures: 40_000}, Forecast{ManyFailures, 40_000, 100}},
		{Cycle{Requests: 200_000, Failures: 40_001}, Forecast{Quarantined, 40_000, 100}},
		{Cycle{Requests: 1_000, Denied: 1}, Forecast{Quarantined, 40_000, 100}},
	} {
		if got := tc.cycle.Forecast(); got != tc.want {
			t.Errorf("%+v: got %+v, want %+v", tc.cycle, got, tc.want)
		}
	}
}

func TestFailedForClient(t *testing.T) {
	for _, tc := range []struct {
		rec            Record
		failed, denied bool
	}{
		{Record{Op: "create", Answer: Answer{Status: 201}}, false, false},
		{Record{Op: "get", Answer: Answer{Status: 404}}, false, false},
		{Record{Op: "patch", Answer: Answer{Status: 404}}, true, false},
		{Record{Op: "create", Answer: Answer{Status: 409}}, true, false},
		{Record{Op: "create", Kind: Unknown}, true, false},
		{Record{Op: "query", Answer: Answer{Status: 403}}, true, true},
		{Record{Action: Unauthenticated, Answer: Answer{Status: 401}}, false, true},
	} {
		if failed, denied := FailedForClient(&tc.rec), DeniedToClient(&tc.rec); failed != tc.failed || denied != tc.denied {
			t.Errorf("%s %s %d: got failed %v, denied %v, want %v, %v", tc.rec.Op, tc.rec.Action, tc.rec.Answer.Status, failed, denied, tc.failed, tc.denied)
		}
	}
}
