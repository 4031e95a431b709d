package fsm

import (
	"fmt"

	"mailraft/mail"
)

// indexTables are those whose keys are a pure function of the message rows.
var indexTables = []byte{tabDiscard, tabExpiry, tabMessageID, tabChild, tabSafetyNet, tabOwner, tabDue, tabShadow, tabNeed, tabExpand, tabOrigin, tabPinned, tabLost, tabParked}

// Verify reads all replicated rows and checks what can be checked by looking
// at them once: that they decode, that the index keys are those that the rows
// make, and that contents are counted for the rows that refer to them.
func (t Tables) Verify(bad func(error)) (messages int) {
	t.fatal = bad
	keys := map[byte]int{} // by table: keys that rows make
	refs := map[mail.ContentID]int{}
	for m := range t.Messages(mail.ID{}) {
		messages++
		refs[m.Content.ID]++
		for _, k := range m.indexes() {
			if keys[k[1]]++; !t.has(k) {
				bad(fmt.Errorf("message %s: index key %q is missing", m.ID, k))
			}
		}
	}
	for _, table := range indexTables {
		n := 0
		for range t.Scan(tab(table), tab(table).end()) {
			n++
		}
		if n != keys[table] {
			bad(fmt.Errorf("index %q has %d keys, and the messages make %d", table, n, keys[table]))
		}
	}
	for row := range rows[contentRow](t, tab(tabContent)) {
		if refs[row.Content.ID] != row.Refs {
			bad(fmt.Errorf("content %s: %d references counted, %d messages", row.Content.ID, row.Refs, refs[row.Content.ID]))
		}
		delete(refs, row.Content.ID)
	}
	for id, n := range refs { // in no order: these are findings
		bad(fmt.Errorf("content %s: %d messages, and not counted", id, n))
	}
	for range t.Scan(ReplicatedLow, ReplicatedHigh) { // every block of the rest
	}
	return messages
}

func (t Tables) has(k key) bool {
	_, ok := t.Get(k)
	return ok
}
