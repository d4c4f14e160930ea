package plan

// LinkEnds names links by their ends: each a node (the client among them), a service or a group.
type LinkEnds struct {
	From string `json:"from"`
	To   string `json:"to"`
}
