package gateway

import (
	"context"
	"net/http"

	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/reply"
)

type stockReply struct {
	SKU      string `json:"sku"`
	Level    int64  `json:"level"`
	Revision int64  `json:"revision"`
	Stale    bool   `json:"stale,omitempty"` // the level known last: inventory is away
}

func (s *Server) getStock(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	if err := text("sku", r.PathValue("sku")); err != nil {
		return err
	}
	got, err := s.orders.GetStock(ctx, &ordersv1.GetStockRequest{Sku: r.PathValue("sku")})
	if err != nil {
		return err
	}
	reply.JSON(w, http.StatusOK, stock(got))
	return nil
}

func stock(s *ordersv1.Stock) stockReply {
	return stockReply{SKU: s.GetSku(), Level: s.GetLevel(), Revision: s.GetRevision(), Stale: s.GetStale()}
}
