package deliver

import (
	"context"
	"errors"
	"strings"
	"testing"
)

type prober struct{ Transport }

func (prober) Probe(_ context.Context, addr string) error { return errors.New("asked " + addr) }

func TestProbeBySchemes(t *testing.T) {
	transports := map[string]Transport{"lmtp": prober{}, "smtp": struct{ Transport }{}}
	for addr, want := range map[string]string{
		"lmtp://mx.example": "asked lmtp://mx.example",
		"smtp://mx.example": "no way to ask",
		"maildir:/mail":     "no way to ask",
		"":                  "no way to ask",
	} {
		if err := Probe(t.Context(), transports, addr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
