package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// GRPCError answers calls of gRPC with a status in the place of the server, which never sees them. Calls From -> To, without
// TLS.
type GRPCError struct {
	Ends
	Chosen
	Code    string `json:"code"`              // UNAVAILABLE and the like
	Method  string `json:"method,omitempty"`  // a regular expression on /package.Service/Method
	Message string `json:"message,omitempty"` // of the status
}

// grpcCodes are the codes of gRPC by number, from 0.
var grpcCodes = []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

// Validate returns every error.
func (g *GRPCError) Validate() error {
	errs := []error{g.Ends.validate(), g.Chosen.validate(), expression("method", g.Method)}
	if g.number() < 1 {
		errs = append(errs, fmt.Errorf("code %q: one of %s", g.Code, strings.Join(grpcCodes[1:], ", ")))
	}
	if len(g.Message) > maxReply {
		errs = append(errs, fmt.Errorf("message: %d bytes, at most %d", len(g.Message), maxReply))
	}
	return errors.Join(errs...)
}

func (g *GRPCError) number() int { return slices.Index(grpcCodes, g.Code) }

// Targets are both ends.
func (g *GRPCError) Targets() []plan.Target { return g.targets() }

// ReplyLinks are the ends of the links that calls are answered on.
func (g *GRPCError) ReplyLinks() Ends { return g.Ends }

// Inject has calls answered.
func (g *GRPCError) Inject(ctx context.Context, env *Env) (*Effect, error) {
	return g.Chosen.inject(ctx, env, g.Ends, cluster.Reply{
		GRPC: &cluster.GRPCReply{Code: g.number(), Message: g.Message}, Path: g.Method,
	}, "status "+g.Code)
}
