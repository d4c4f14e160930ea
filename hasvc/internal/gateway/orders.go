package gateway

import (
	"context"
	"crypto/rand"
	"net/http"

	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/recovery"
	"github.com/hasvc/gauntlet/hasvc/internal/reply"
)

type orderRequest struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

type orderReply struct {
	ID        string `json:"id"`
	SKU       string `json:"sku"`
	Quantity  int64  `json:"quantity"`
	Status    string `json:"status"`
	CreatedAt string `json:"createdAt"`
}

func (s *Server) createOrder(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	var body orderRequest
	if err := decode(r, &body); err != nil {
		return err
	}
	recovery.Poison(s.cfg, body.SKU)
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		key = rand.Text() // at least our own retries make one order
	}
	if err := text("Idempotency-Key", key); err != nil {
		return err
	}
	o, err := s.orders.CreateOrder(ctx, &ordersv1.CreateOrderRequest{IdempotencyKey: key, Sku: body.SKU, Quantity: body.Quantity})
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/orders/"+o.GetId())
	reply.JSON(w, http.StatusCreated, order(o))
	return nil
}

func (s *Server) getOrder(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	if err := text("the id", r.PathValue("id")); err != nil {
		return err
	}
	o, err := s.orders.GetOrder(ctx, &ordersv1.GetOrderRequest{Id: r.PathValue("id")})
	if err != nil {
		return err
	}
	reply.JSON(w, http.StatusOK, order(o))
	return nil
}

func order(o *ordersv1.Order) orderReply {
	return orderReply{ID: o.GetId(), SKU: o.GetSku(), Quantity: o.GetQuantity(), Status: o.GetStatus(), CreatedAt: o.GetCreatedAt()}
}
