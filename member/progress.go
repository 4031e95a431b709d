package member

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"mailraft/admin"
	"mailraft/mail"
)

// kindProgress asks a member how far it is with fetching content.
const kindProgress byte = 0x24

// progressTime bounds the question to members that may be gone.
const progressTime = time.Second

// progress asks every member that is up how far it is with fetching content;
// who does not answer in time is left out.
func (m *Member) progress(ctx context.Context) map[mail.MemberID]admin.Refill {
	ctx, cancel := context.WithTimeout(ctx, progressTime)
	defer cancel()
	all := map[mail.MemberID]admin.Refill{m.id.ID: m.refill.status()}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, p := range m.peers() {
		if m.isDown(p.ID) {
			continue
		}
		asked.Go(func() {
			var r admin.Refill
			b, err := m.link.Call(ctx, p.Addr, kindProgress, nil)
			if err == nil {
				err = json.Unmarshal(b, &r)
			}
			if err != nil {
				m.log.Debug("a member does not say what it lacks", "member", p.Name, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all[p.ID] = r
		})
	}
	asked.Wait()
	return all
}
