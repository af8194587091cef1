package audit

import "time"

// Query selects records of the trail. Its members are joined by "and"; zero members do not select.
type Query struct {
	RequestID  string
	User       string // the subject's id, userName or externalId, compared without regard to case
	Action     string
	Kind       string
	Connection string
	Credential string
	Status     int       // of the answer
	Since      time.Time // not before
	Until      time.Time // before

	After  int64 // a cursor: only records beyond this Seq in the direction of reading; 0 from the start
	Limit  int   // at most so many records; 0 for all
	Newest bool  // newest first; else in the order of the trail
}
