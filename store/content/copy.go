package content

import (
	"fmt"

	"mailraft/mail"
)

// copier writes contents that exist into a segment of their own, beside the
// one that the appender writes: old contents stay together, and no append
// waits for a copy. Nobody sees the segment before it is synced and sealed.
type copier struct {
	*Store
	file    *file // nil until there is something to copy
	entries []entry
	at      map[mail.ContentID]bool // copied already
	bytes   int64
}

// copy copies one content. What is copied was checked while it was read.
func (c *copier) copy(id mail.ContentID) error {
	if c.at[id] {
		return nil
	}
	r, err := c.Open(id)
	if err != nil {
		return err
	}
	defer r.Close()
	if c.file == nil {
		if c.file, err = c.createFile(id); err != nil {
			return c.failing(err)
		}
	}
	e := entry{Content: r.content, off: uint32(c.file.end)}
	es := make([]extent, 0, len(r.pieces))
	for i, p := range r.pieces {
		if err := r.load(i); err != nil {
			return err
		}
		r.loaded = -1 // its header is overwritten here
		h := header{kind: p.kind, chunk: p.number, content: r.content}
		if p.kind == kindChunk {
			h.content = mail.Content{ID: id, Size: p.start}
		}
		es = append(es, extent{c.file.number, uint32(c.file.end), p.length})
		if err := c.write(h, r.buf); err != nil {
			return err
		}
	}
	if e.large() {
		e.off = uint32(c.file.end)
		b := newBuffer(len(es) * extentLen)
		defer b.free()
		b.b = appendExtents(b.b, es)
		if err := c.write(header{kind: kindEnd, chunk: uint32(len(es)), content: r.content}, b); err != nil {
			return err
		}
	}
	c.entries = append(c.entries, e)
	c.at[id] = true
	return nil
}

func (c *copier) write(h header, b *buffer) error {
	h.length, h.dataSum = uint32(len(b.data())), checksum(b.data())
	h.encode(b.b, c.file.marker, uint32(c.file.end))
	c.bytes += int64(len(b.b))
	return c.failing(c.file.write(b.b))
}

// failing stops the store for an error that is not a full disk.
func (c *copier) failing(err error) error {
	if err != nil && !full(err) {
		c.fail(err)
	}
	return err
}

// seal is the commit point of the copies: from here on they count.
func (c *copier) seal() error {
	if c.file == nil || len(c.entries) == 0 {
		return c.drop()
	}
	if err := c.file.sync(); err != nil {
		return c.failing(err)
	}
	if err := c.file.f.Close(); err != nil {
		return c.failing(fmt.Errorf("close segment %s: %w", c.file.name, err))
	}
	g := newSegment(c.file.name, c.file.end, c.entries)
	if err := c.index(g); err != nil {
		return c.failing(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sealed = c.sealed.with(g)
	return nil
}

// drop removes a segment of copies that did not come to anything.
func (c *copier) drop() error {
	if c.file == nil {
		return nil
	}
	c.file.f.Close()
	if err := c.FS.Remove(c.path(c.file.name, segmentSuffix)); err != nil {
		return fmt.Errorf("remove unfinished copy: %w", err)
	}
	return nil
}
