package ingress

import (
	"strings"
	"testing"

	"mailraft/smtpd"

	"github.com/hashicorp/go-hclog"
)

func TestMilterConfig(t *testing.T) {
	const (
		a = "[[smtp.milter]]\nname = \"a\"\naddress = \"inet:127.0.0.1:8891\"\n"
		b = "[[smtp.milter]]\nname = \"b\"\naddress = \"unix:/run/b.sock\"\n"
		l = "[[smtp.listener]]\nlisten = \"127.0.0.1:25\"\nrole = \"mx\"\n"
	)
	for _, c := range []struct{ name, smtp, want string }{
		{"none", l, ""},
		{"all by default", a + b + l, "a tempfail, b tempfail"},
		{"some, in their order", a + b + l + `milters = ["b", "a"]`, "b tempfail, a tempfail"},
		{"none of them", a + b + l + `milters = []`, ""},
		{"policy", a + "when-away = \"quarantine\"\nsize-max = \"10MB\"\ncontent-timeout = \"1m\"\nconnections-max = 5\n", "a quarantine"},
		{"no such milter", a + l + `milters = ["c"]`, `smtp.listener: "127.0.0.1:25": milters: there is no [[smtp.milter]] with the name "c"`},
		{"no name", "[[smtp.milter]]\naddress = \"unix:/x\"", `smtp.milter: "": name: want a word`},
		{"twice", a + a, `smtp.milter: "a": there are two of that name`},
		{"Sendmail's form", "[[smtp.milter]]\nname = \"a\"\naddress = \"inet:8891@localhost\"", `address: "inet:8891@localhost": want inet:HOST:PORT or unix:/PATH`},
		{"a relative path", "[[smtp.milter]]\nname = \"a\"\naddress = \"unix:x\"", `want inet:HOST:PORT or unix:/PATH`},
		{"refused for good", a + `when-away = "reject"`, `when-away: "reject" is none of tempfail, accept and quarantine`},
		{"no time", a + `command-timeout = "soon"`, `command-timeout: duration "soon": want a form such as 2d, 12h or 1m30s`},
		{"too long", a + `content-timeout = "1h"`, `content-timeout: want 100ms to 10m`},
		{"no size", a + `size-max = "big"`, `size-max: size "big": want a form such as 150MiB, 10MB or 4096`},
	} {
		cfg, err := load("[smtp]\n" + c.smtp + "\n")
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = asked(t, cfg)
		}
		if got != c.want && (err == nil || !strings.HasSuffix(got, c.want)) {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// asked are the milters of the first listener, with their policies.
func asked(t *testing.T, cfg Config) string {
	t.Helper()
	all, err := cfg.Filters(hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range cfg.FiltersFor(smtpd.MX, all) {
		list = append(list, f.Name()+" "+f.State().WhenAway.String())
	}
	return strings.Join(list, ", ")
}
