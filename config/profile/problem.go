package profile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in a file, or in a named place that has no lines such as an environment variable.
type Problem struct {
	File         string // as the user named it; the name of the variable when there is no file
	Line, Column int    // from 1; a column counts characters; 0, 0: the whole file, or no file
	Message      string // what is wrong and what to do, without a position
}

// String returns "file:line:col: message", or "file: message" for a Problem without a position.
func (p Problem) String() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// Problems is every mistake that was found, as one error.
type Problems []Problem

// Error returns one line for each Problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// Err sorts p by file, line and column and returns it as an error, or nil when there is no Problem.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			strings.Compare(a.Message, b.Message))
	})
	return p
}
