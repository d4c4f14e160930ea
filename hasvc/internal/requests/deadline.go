package requests

import (
	"net/http"
	"strconv"
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/reply"
)

// TimeoutHeader is the time that the client gives a request, in whole milliseconds.
const TimeoutHeader = "Request-Timeout"

// ErrLate is the answer to a request whose time is over.
var ErrLate = &reply.Problem{Status: http.StatusGatewayTimeout, Message: "the deadline has passed"}

// Time is the time that the client gives the request, at most the one given here.
func Time(r *http.Request, most time.Duration) (time.Duration, error) {
	v := r.Header.Get(TimeoutHeader)
	if v == "" {
		return most, nil
	}
	ms, err := strconv.ParseUint(v, 10, 31)
	switch {
	case err != nil:
		return 0, &reply.Problem{Status: http.StatusBadRequest, Message: TimeoutHeader + " is a number of milliseconds"}
	case ms == 0:
		return 0, ErrLate
	}
	return min(most, time.Duration(ms)*time.Millisecond), nil
}
