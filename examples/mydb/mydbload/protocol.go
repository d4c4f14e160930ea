package main

// command is what the harness asks for, a line each.
type command struct {
	Type    string   `json:"type"` // start | stop | verify
	Run     string   `json:"run"`
	Members []string `json:"members"` // verify: the nodes that run
}

// reply is what is answered, a line each.
type reply struct {
	Type    string `json:"type"` // hello | op | done
	Version int    `json:"version,omitempty"`
	Client  int    `json:"client,omitempty"`
	Op      string `json:"op,omitempty"` // insert | read
	Key     string `json:"key,omitempty"`
	Value   string `json:"value,omitempty"`
	Member  string `json:"member,omitempty"`
	Found   *bool  `json:"found,omitempty"`
	Count   int    `json:"count,omitempty"`
	Call    int64  `json:"call,omitempty"` // Unix time in nanoseconds
	Return  int64  `json:"return,omitempty"`
	Outcome string `json:"outcome,omitempty"` // ok | failed | unknown
	Error   string `json:"error,omitempty"`
}
