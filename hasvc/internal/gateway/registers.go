package gateway

import (
	"context"
	"net/http"

	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/reply"
)

type registerRequest struct {
	Value          *string `json:"value"`
	ExpectRevision *int64  `json:"expectRevision"` // 0: must not exist
}

type registerReply struct {
	Key      string `json:"key"`
	Value    string `json:"value"`
	Revision int64  `json:"revision"`
}

func (s *Server) getRegister(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	req := &ordersv1.GetRegisterRequest{Key: r.PathValue("key")}
	switch c := r.URL.Query().Get("consistency"); c {
	case "", "linearizable":
	case "serializable":
		req.Serializable = true
	default:
		return problem(http.StatusBadRequest, "consistency is linearizable or serializable")
	}
	if err := text("the key", req.GetKey()); err != nil {
		return err
	}
	reg, err := s.orders.GetRegister(ctx, req)
	if err != nil {
		return err
	}
	reply.JSON(w, http.StatusOK, register(reg))
	return nil
}

func (s *Server) putRegister(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	var body registerRequest
	if err := decode(r, &body); err != nil {
		return err
	}
	if body.Value == nil {
		return problem(http.StatusBadRequest, "value is missing")
	}
	if err := text("the key", r.PathValue("key")); err != nil {
		return err
	}
	reg, err := s.orders.PutRegister(ctx, &ordersv1.PutRegisterRequest{Key: r.PathValue("key"), Value: *body.Value, ExpectRevision: body.ExpectRevision})
	if err != nil {
		return err
	}
	reply.JSON(w, http.StatusOK, register(reg))
	return nil
}

func register(r *ordersv1.Register) registerReply {
	return registerReply{Key: r.GetKey(), Value: r.GetValue(), Revision: r.GetRevision()}
}
