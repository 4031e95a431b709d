package loopback

import (
	"context"
	"encoding/json"
	"fmt"
)

// Description is what "mailraft dev" prints, and what checks read.
type Description struct {
	Members   []MemberDescription `json:"members"`
	Domain    string              `json:"domain"`
	Databases json.RawMessage     `json:"databases"`

	FrontEnd *FrontEndDescription `json:"front_end,omitempty"`
}

// FrontEndDescription is the front end of a Description.
type FrontEndDescription struct {
	PID    int    `json:"pid"`
	SMTP   string `json:"smtp"`
	HTTP   string `json:"http"`
	Socket string `json:"socket"`
	Config string `json:"config"`
	Dir    string `json:"dir"`
}

// MemberDescription is one member of a Description.
type MemberDescription struct {
	Name   string `json:"name"`
	PID    int    `json:"pid"`
	SMTP   string `json:"smtp"`
	HTTP   string `json:"http"`
	Socket string `json:"socket"`
	Config string `json:"config"`
	Dir    string `json:"dir"`
}

// Describe says what runs where.
func (b *Boundary) Describe(ctx context.Context) (Description, error) {
	d := Description{Domain: b.Domain}
	for _, m := range b.Members {
		d.Members = append(d.Members, MemberDescription{Name: m.Name, PID: m.PID(), SMTP: m.SMTP, HTTP: m.HTTP, Socket: m.Socket, Config: m.Config, Dir: m.Dir})
	}
	if f := b.FrontEnd; f != nil {
		d.FrontEnd = &FrontEndDescription{PID: f.PID(), SMTP: f.SMTP, HTTP: f.HTTP, Socket: f.Socket, Config: f.Config, Dir: f.Dir}
	}
	out, err := b.CLI(ctx, "database", "list", "-o", "json")
	if err != nil {
		return d, err
	}
	var list struct {
		Items json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return d, fmt.Errorf("read the list of databases: %w", err)
	}
	d.Databases = list.Items
	return d, nil
}
