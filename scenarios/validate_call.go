package scenarios

import (
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
)

// callForm is PACKAGE.SERVICE/METHOD; the package may be left out, as protobuf lets one do.
var callForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*$`)

// maxMessages bounds what one stream sends or receives.
const maxMessages = 1_000_000

var (
	ofCalls = []string{"call", "message", "metadata", "stream"}
	ofHTTP  = []string{"method", "path", "headers", "body"}
)

// call checks a request as a gRPC call, and reports whether it is one: the load says so. Whether the service has the method
// is known when it is asked, or its descriptors are read.
func (v *validator) call(at []any, l Stream, r Request) bool {
	has := func(key string) bool { return v.has(sub(at, key)...) }
	if l.GRPC == nil {
		for _, k := range ofCalls {
			if has(k) {
				v.key(sub(at, k), "%s is of gRPC calls; give the load grpc: {}", k)
				break
			}
		}
		// What is meant is known, and that it has no path no news.
		return has("call") && !has("path")
	}
	for _, k := range ofHTTP {
		if has(k) {
			v.key(sub(at, k), "%s is of HTTP requests; a gRPC call has call, message, metadata and stream", k)
		}
	}
	switch {
	case !has("call"):
		v.at(at, "call is missing: PACKAGE.SERVICE/METHOD")
	case !callForm.MatchString(r.Call):
		v.at(sub(at, "call"), "%q: a call is written PACKAGE.SERVICE/METHOD, such as orders.v1.Orders/Create", r.Call)
	}
	if has("message") {
		if m := v.root.find(sub(at, "message")...); m.kind != mapNode {
			v.at(sub(at, "message"), "a message is a mapping of its fields, not %s", m.what())
		} else {
			v.bodyTemplate(m)
		}
	}
	for _, k := range inOrder(r.Metadata, v.root.find(sub(at, "metadata")...)) {
		if !validMetadata(k) {
			v.key(sub(at, "metadata", k), "%q is no key of metadata: letters, digits, -, _ and ., and not grpc-", k)
		}
		v.template(sub(at, "metadata", k), r.Metadata[k])
	}
	if r.Stream != nil {
		v.within(sub(at, "stream", "send"), r.Stream.Send, 1, maxMessages)
		v.within(sub(at, "stream", "receive"), r.Stream.Receive, 1, maxMessages)
		if r.Stream.Pause > 0 && (r.Stream.Send == 1 || !v.has(sub(at, "stream", "send")...)) {
			v.key(sub(at, "stream", "pause"), "pause is between messages that are sent, and one is sent; give send")
		}
		timeout := l.Timeout
		if !v.has(sub(at[:len(at)-2], "timeout")...) {
			timeout = plan.Duration(DefaultLoadTimeout)
		}
		pause := max(1, r.Stream.Pause)
		pauses := min(max(0, plan.Duration(r.Stream.Send-1)), math.MaxInt64/pause) // more of them are no time that a number can hold
		if whole := pauses * r.Stream.Pause; timeout > 0 && whole >= timeout {
			v.at(sub(at, "stream"), "sending alone takes %v, and the load's timeout is %v", whole, timeout)
		}
	}
	if r.Expect != nil {
		if v.has(sub(at, "expect", "status")...) {
			v.key(sub(at, "expect", "status"), "status is of HTTP; a gRPC answer has code")
		}
		for _, c := range r.Expect.Code {
			if !slices.Contains(plan.GRPCCodes, c) {
				v.at(sub(at, "expect", "code"), "%q is no gRPC status%s", c, suggest(c, plan.GRPCCodes))
			}
		}
		v.regexp(sub(at, "expect", "matches"), r.Expect.Matches)
	}
	return true
}

func validMetadata(k string) bool {
	return k != "" && !strings.HasPrefix(strings.ToLower(k), "grpc-") && strings.IndexFunc(k, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	}) < 0
}
