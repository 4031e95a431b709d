package main

import (
	"net/url"
	"slices"
	"strings"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

func directoryCommand() *cli.Command {
	return &cli.Command{
		Name: "directory", Usage: "domains, mailboxes, groups, next hops: who gets mail, and where",
		Subcommands: []*cli.Command{
			objectCommand(domainKind()), objectCommand(mailboxKind()), objectCommand(groupKind()), objectCommand(nextHopKind()),
			{Name: "resolve", Usage: "say what would become of mail to addresses now", ArgsUsage: "ADDRESS…|-",
				Flags: flags(), Action: asking(1, -1, resolve)},
			exportCommand(), importCommand(),
		},
	}
}

// objectKind is what the commands for one kind of object differ in.
type objectKind[T any] struct {
	name, usage, argument string
	api                   string // plural
	flags                 []cli.Flag
	fill                  func(s *session, name string, object *T) error // from flags that were given
	list                  listing[T]
	into                  func(*admin.DirectoryOrder, T)
}

func objectCommand[T any](k objectKind[T]) *cli.Command {
	put := func(mode string) func(*session) error {
		return func(s *session) error { return putObject(s, k, mode) }
	}
	return &cli.Command{
		Name: k.name, Usage: k.usage,
		Subcommands: []*cli.Command{
			{Name: "add", Usage: "add a " + k.name, ArgsUsage: k.argument, Flags: flags(k.flags, changeFlags()), Action: asking(1, 1, put("add"))},
			{Name: "set", Usage: "change a " + k.name + "; what is not named stays", ArgsUsage: k.argument,
				Flags: flags(k.flags, changeFlags()), Action: asking(1, 1, put("set"))},
			{Name: "list", Usage: "list all", Flags: flags([]cli.Flag{&cli.IntFlag{Name: "limit", Usage: "at most `N`"}}),
				Action: asking(0, 0, func(s *session) error {
					q := values()
					if s.IsSet("limit") {
						q.Set("limit", itoa(s.Int("limit")))
					}
					return list(s, path(k.api), q, k.list)
				})},
			{Name: "show", Usage: "show one", ArgsUsage: k.argument, Flags: flags(), Action: asking(1, 1, func(s *session) error { return showObject(s, k) })},
			{Name: "remove", Usage: "remove some", ArgsUsage: k.argument + "…|-", Flags: flags(changeFlags()),
				Action: asking(1, -1, func(s *session) error { return removeObjects(s, k.name) })},
		},
	}
}

// putObject adds an object, or changes what the flags name of one.
func putObject[T any](s *session, k objectKind[T], mode string) error {
	name := s.Args().First()
	var one admin.One[T]
	if mode == "set" {
		if err := s.client.Get(s.Context.Context, path(k.api, url.PathEscape(name)), nil, &one); err != nil {
			return err
		}
	}
	if err := k.fill(s, name, &one.Item); err != nil {
		return err
	}
	o := admin.DirectoryOrder{Order: s.order(), Mode: mode}
	k.into(&o, one.Item)
	return s.change(path("directory"), nil, o)
}

func showObject[T any](s *session, k objectKind[T]) error {
	var one admin.One[T]
	if err := s.client.Get(s.Context.Context, path(k.api, url.PathEscape(s.Args().First())), nil, &one); err != nil {
		return err
	}
	return showOne(s, one, k.list)
}

func removeObjects(s *session, kind string) error {
	names, err := s.names(0)
	if err != nil {
		return err
	}
	o := admin.DirectoryOrder{Order: s.order()}
	for _, n := range names {
		o.Remove = append(o.Remove, admin.ObjectName{Kind: kind, Name: n})
	}
	return s.change(path("directory"), nil, o)
}

func domainKind() objectKind[admin.Domain] {
	return objectKind[admin.Domain]{
		name: "domain", api: "domains", argument: "DOMAIN", usage: "domains that mail is taken for; * is the route for all others",
		flags: []cli.Flag{
			&cli.StringFlag{Name: "database", Usage: "`NAME` of the database of mailboxes that are not listed"},
			&cli.BoolFlag{Name: "any-mailbox", Usage: "every local part is a mailbox"},
			&cli.StringFlag{Name: "next-hop", Usage: "pass mail on to smtp://`HOST:PORT`, or to the hosts that MX records name: mx: (of the recipient's domain), mx:DOMAIN"},
		},
		fill: func(s *session, name string, d *admin.Domain) error {
			if d.Name == "" {
				d.Name, d.Kind = name, admin.Accepted
			}
			if s.IsSet("next-hop") {
				*d = admin.Domain{Name: d.Name, Kind: admin.Relay, NextHop: s.String("next-hop")}
			}
			if s.IsSet("database") {
				d.Kind, d.NextHop, d.Database = admin.Accepted, "", s.String("database")
			}
			if s.IsSet("any-mailbox") {
				d.AnyMailbox = s.Bool("any-mailbox")
			}
			if s.IsSet("next-hop") && (s.IsSet("database") || s.Bool("any-mailbox")) {
				return usageError("--next-hop is for domains that are elsewhere, --database and --any-mailbox for those that are here")
			}
			return nil
		},
		list: listing[admin.Domain]{
			noun: "domain", header: "domain\tkind\tdatabase\tmailboxes\tnext hop", id: func(d admin.Domain) string { return d.Name },
			row: func(_ mail.Time, d admin.Domain) []string {
				boxes := "listed"
				if d.AnyMailbox {
					boxes = "any"
				}
				if d.Kind == admin.Relay {
					boxes = "-"
				}
				return []string{d.Name, d.Kind.String(), orDash(d.Database), boxes, orDash(d.NextHop)}
			},
		},
		into: func(o *admin.DirectoryOrder, d admin.Domain) { o.Domains = append(o.Domains, d) },
	}
}

func mailboxKind() objectKind[admin.Mailbox] {
	return objectKind[admin.Mailbox]{
		name: "mailbox", api: "mailboxes", argument: "ADDRESS", usage: "mailboxes: of users, shared ones, public folders",
		flags: []cli.Flag{
			&cli.StringFlag{Name: "database", Usage: "`NAME` of the database that it is in"},
			&cli.StringSliceFlag{Name: "alias", Usage: "another `ADDRESS`; with set: these instead of the ones it has"},
			&cli.StringSliceFlag{Name: "add-alias", Usage: "one more `ADDRESS`"},
			&cli.StringSliceFlag{Name: "remove-alias", Usage: "one `ADDRESS` less"},
		},
		fill: func(s *session, name string, m *admin.Mailbox) error {
			if m.Address == "" {
				m.Address = name
			}
			if s.IsSet("database") {
				m.Database = s.String("database")
			}
			if m.Database == "" {
				return usageError("--database NAME is missing")
			}
			m.Aliases = edited(s, m.Aliases, "alias")
			return nil
		},
		list: listing[admin.Mailbox]{
			noun: "mailbox", header: "mailbox\tdatabase\taliases", id: func(m admin.Mailbox) string { return m.Address },
			row: func(_ mail.Time, m admin.Mailbox) []string {
				return []string{m.Address, m.Database, cut(strings.Join(m.Aliases, " "), 80)}
			},
		},
		into: func(o *admin.DirectoryOrder, m admin.Mailbox) { o.Mailboxes = append(o.Mailboxes, m) },
	}
}

func groupKind() objectKind[admin.AddressGroup] {
	return objectKind[admin.AddressGroup]{
		name: "group", api: "groups", argument: "ADDRESS", usage: "distribution groups",
		flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "member", Usage: "`ADDRESS` of a mailbox, a group or somebody outside; with set: these instead"},
			&cli.StringSliceFlag{Name: "add-member", Usage: "one more `ADDRESS`"},
			&cli.StringSliceFlag{Name: "remove-member", Usage: "one `ADDRESS` less"},
		},
		fill: func(s *session, name string, g *admin.AddressGroup) error {
			if g.Address == "" {
				g.Address = name
			}
			g.Members = edited(s, g.Members, "member")
			return nil
		},
		list: listing[admin.AddressGroup]{
			noun: "group", header: "group\tmembers\tfirst", id: func(g admin.AddressGroup) string { return g.Address },
			row: func(_ mail.Time, g admin.AddressGroup) []string {
				return []string{g.Address, itoa(len(g.Members)), cut(strings.Join(g.Members, " "), 80)}
			},
		},
		into: func(o *admin.DirectoryOrder, g admin.AddressGroup) { o.Groups = append(o.Groups, g) },
	}
}

// edited is a list of addresses after --NAME, --add-NAME and --remove-NAME.
func edited(s *session, list []string, name string) []string {
	if s.IsSet(name) {
		list = s.StringSlice(name)
	}
	for _, a := range s.StringSlice("add-" + name) {
		if !slices.ContainsFunc(list, func(x string) bool { return strings.EqualFold(x, a) }) {
			list = append(list, a)
		}
	}
	for _, a := range s.StringSlice("remove-" + name) {
		list = slices.DeleteFunc(list, func(x string) bool { return strings.EqualFold(x, a) })
	}
	return list
}

func resolve(s *session) error {
	names, err := s.names(0)
	if err != nil {
		return err
	}
	return list(s, path("resolve"), values(slices.Collect(pairs("address", names))...), listing[admin.Resolution]{
		noun: "recipient", header: "recipient\tbecomes\tkind\twhere\tvia", id: func(r admin.Resolution) string { return r.Address },
		row: func(_ mail.Time, r admin.Resolution) []string {
			where := orDash(r.Database + r.NextHop)
			if r.Reply != nil {
				where = r.Reply.String()
			}
			return []string{r.Original, r.Address, r.Kind, where, strings.Join(r.Via, " > ")}
		},
	})
}
