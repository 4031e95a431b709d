package ingress

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailraft/smtpd/limit"
)

func TestLimits(t *testing.T) {
	var l Limits
	if err := l.complete(); err != nil {
		t.Fatal(err)
	}
	if d := l.limits; d.Sessions != 4096 || d.SessionsPerClient != 100 || d.Messages != 1000 || d.Recipients != 1000 || d.MessageRate != (limit.Rate{Count: 3000, Per: time.Minute}) ||
		d.GreetDelay != 0 || d.EarlyTalkers || d.Times.Message != time.Hour || d.RateMin != 100 || d.Exempt != nil {
		t.Errorf("defaults: %+v", d)
	}
	l = Limits{SessionsPerClient: -1, MessageRate: "none", ConnectionRate: "5/s", ExemptNetworks: []string{"127.0.0.1", "2001:db8::/32"}, EarlyTalkers: "allow", GreetDelay: "2s"}
	if err := l.complete(); err != nil {
		t.Fatal(err)
	}
	if d := l.limits; d.SessionsPerClient != -1 || !d.MessageRate.None() || d.ConnectionRate.Count != 5 || !d.EarlyTalkers || d.GreetDelay != 2*time.Second ||
		!slices.Equal(d.Exempt, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("2001:db8::/32")}) {
		t.Errorf("set: %+v", d)
	}
	for want, l := range map[string]Limits{
		"sessions-max, hops-max, own-hops-max: -1, 50, 5": {SessionsMax: -1},
		"recipients-max: 1001":                            {RecipientsMax: 1001},
		"recipients-max: -1":                              {RecipientsMax: -1},
		"early-talkers":                                   {EarlyTalkers: "maybe"},
		"exempt-networks: \"localhost\"":                  {ExemptNetworks: []string{"localhost"}},
		"10.1.0.0/16 is meant":                            {ExemptNetworks: []string{"10.1.2.3/16"}},
		"message-rate: \"5\" is no rate":                  {MessageRate: "5"},
		"command-time: 0s: want 1s to 1h":                 {CommandTime: "0s"},
		"greet-delay: 5m: want 0s to 1m":                  {GreetDelay: "5m"},
		"transaction-time":                                {TransactionTime: "soon"},
	} {
		if err := l.complete(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestProxyFrom(t *testing.T) {
	l := Listener{ProxyFrom: []string{"192.0.2.7", "10.1.0.0/16"}}
	if err := l.proxies(); err != nil || len(l.proxyFrom) != 2 {
		t.Errorf("%v %v", l.proxyFrom, err)
	}
	l = Listener{ProxyFrom: []string{"::/0"}}
	if err := l.proxies(); err == nil || !strings.Contains(err.Error(), "anybody") {
		t.Error(err)
	}
}
