package load

import (
	"slices"
	"strconv"

	"github.com/hasvc/gauntlet/harness/plan"
)

// grpcName is a gRPC status as gRPC's documentation writes it, UNAVAILABLE and not Unavailable.
func grpcName(code int) string {
	if code >= 0 && code < len(plan.GRPCCodes) {
		return plan.GRPCCodes[code]
	}
	return "CODE " + strconv.Itoa(code)
}

func grpcCode(name string) (int, bool) {
	i := slices.Index(plan.GRPCCodes, name)
	return i, i >= 0
}
