package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go4.org/netipx"

	"sekisho/internal/config"
	"sekisho/internal/country"
	"sekisho/internal/daemon"
	"sekisho/internal/iso3166"
	"sekisho/internal/printable"
)

func countryCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "country",
		Short: "Look at the country data, or renew it",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(countryShowCommand(g), countryLookupCommand(g), countryUpdateCommand(g))
	return cmd
}

// dataAnswer tells in JSON what the data is.
type dataAnswer struct {
	country.Meta
	Embedded bool       `json:"embedded"`
	Accepted *time.Time `json:"accepted,omitempty"`
	Damage   string     `json:"damage,omitempty"`
}

func newDataAnswer(d *country.Data, damage error) dataAnswer {
	a := dataAnswer{Meta: d.Meta, Embedded: d.Embedded}
	if !d.Embedded {
		a.Accepted = &d.Accepted
	}
	if damage != nil {
		a.Damage = damage.Error()
	}
	return a
}

// tellData tells people what the data is.
func tellData(u *ui, d *country.Data, damage error) {
	age := max(0, int(time.Since(d.Time).Hours()/24))
	where := ""
	if d.Embedded {
		where = fmt.Sprintf("; the snapshot in the program (%s)", printable.Bytes(int64(country.EmbeddedSize())))
	}
	u.line(fmt.Sprintf("data: %s, of %s (%s old)%s", d.Source, d.Time.Format(time.DateOnly), plural(age, "day"), where))
	if d.Notice != "" {
		u.line("made from: " + d.Notice)
	}
	if d.Note != "" {
		u.line("precision: " + d.Note)
	}
	switch {
	case errors.Is(damage, os.ErrPermission):
		u.warn(damage.Error(), "what the daemon uses may be newer: use sudo")
	case damage != nil:
		u.warn(damage.Error(), "renew it: sekisho country update")
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func countryShowCommand(g *globals) *cobra.Command {
	var prefixes bool
	cmd := &cobra.Command{
		Use:   "show [CC]",
		Short: "Show what is known of a country's addresses, and how old that is",
		Long:  "Without CC: which data there is, of which day, from where. With the code of a country: how much of the Internet is its own.",
		Example: `  sekisho country show
  sekisho country show JP
  sekisho country show JP --prefixes`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			d, damage := country.NewUpdater(country.Options{StateDir: g.stateDir}).Load()
			if len(args) == 0 {
				if prefixes {
					return &exitError{exitUsage, withHint(errors.New("--prefixes is of one country"), "for example: sekisho country show JP --prefixes")}
				}
				return showData(g, d, damage)
			}
			code, err := parseCountry(args[0])
			if err != nil {
				return err
			}
			return showCountry(g, d, damage, code, prefixes)
		},
	}
	cmd.Flags().BoolVar(&prefixes, "prefixes", false, "list its prefixes, one a line")
	return cmd
}

func showData(g *globals, d *country.Data, damage error) error {
	u := newUI(g)
	if g.json {
		return u.json(struct {
			Countries []country.Code `json:"countries"`
			Data      dataAnswer     `json:"data"`
		}{d.Codes(), newDataAnswer(d, damage)})
	}
	u.line(fmt.Sprintf("%d countries are known", len(d.Codes())))
	tellData(u, d, damage)
	return nil
}

func showCountry(g *globals, d *country.Data, damage error, code country.Code, prefixes bool) error {
	set, err := d.Set(code)
	if err != nil {
		return err
	}
	all := set.Prefixes()
	v4Ranges, v6Ranges := d.Count(code)
	v4, v6 := set.Size()
	v4Prefixes := 0
	for _, p := range all {
		if p.Addr().Is4() {
			v4Prefixes++
		}
	}
	u := newUI(g)
	switch {
	case g.json:
		type family struct {
			Ranges    int    `json:"ranges"`
			Prefixes  int    `json:"prefixes"`
			Addresses uint64 `json:"addresses,omitempty"`
			Networks  uint64 `json:"networks_64,omitempty"`
		}
		answer := struct {
			Code     country.Code   `json:"code"`
			Name     string         `json:"name"`
			IPv4     family         `json:"ipv4"`
			IPv6     family         `json:"ipv6"`
			Prefixes []netip.Prefix `json:"prefixes,omitempty"`
			Data     dataAnswer     `json:"data"`
		}{
			Code: code,
			Name: code.Name(),
			IPv4: family{Ranges: v4Ranges, Prefixes: v4Prefixes, Addresses: v4},
			IPv6: family{Ranges: v6Ranges, Prefixes: len(all) - v4Prefixes, Networks: v6},
			Data: newDataAnswer(d, damage),
		}
		if prefixes {
			answer.Prefixes = all
		}
		return u.json(answer)
	case prefixes:
		var b strings.Builder
		for _, p := range all {
			b.WriteString(p.String())
			b.WriteByte('\n')
		}
		_, err := io.WriteString(g.stdout, b.String())
		return err
	}
	u.line(fmt.Sprintf("%s, %s", code, code.Name()))
	u.table([][]string{
		{"FAMILY", "RANGES", "PREFIXES", "SIZE"},
		{"IPv4", fmt.Sprint(v4Ranges), fmt.Sprint(v4Prefixes), fmt.Sprintf("%d addresses", v4)},
		{"IPv6", fmt.Sprint(v6Ranges), fmt.Sprint(len(all) - v4Prefixes), fmt.Sprintf("%d networks of /64", v6)},
	})
	tellData(u, d, damage)
	return nil
}

// parseCountry reads the code of a country given on the command line.
func parseCountry(s string) (country.Code, error) {
	code, err := iso3166.Parse(s)
	if unknown, ok := errors.AsType[*iso3166.UnknownError](err); ok {
		return code, &exitError{exitUsage, withHint(err, unknown.Hint)}
	}
	return code, err
}

func countryLookupCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "lookup ADDR",
		Short:   "Tell which country an address is registered in",
		Long:    "Tell which country's registry entry holds an address, or that none does. The data is what `sekisho country show` tells of.",
		Example: `  sekisho country lookup 133.11.0.1`,
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			a, err := netip.ParseAddr(args[0])
			if err != nil || a.Zone() != "" {
				return &exitError{exitUsage, withHint(fmt.Errorf("%q is not an address", args[0]), "for example 203.0.113.7 or 2001:db8::7")}
			}
			a = a.Unmap()
			d, damage := country.NewUpdater(country.Options{StateDir: g.stateDir}).Load()
			code, around, known, err := d.Lookup(a)
			if err != nil {
				return err
			}
			return tellLookup(g, d, damage, a, code, around, known)
		},
	}
}

func tellLookup(g *globals, d *country.Data, damage error, a netip.Addr, code country.Code, around netipx.IPRange, known bool) error {
	u := newUI(g)
	if g.json {
		answer := struct {
			Addr  netip.Addr      `json:"addr"`
			Code  *country.Code   `json:"code"` // null: not known
			Name  string          `json:"name,omitempty"`
			Range *netipx.IPRange `json:"range,omitempty"`
			Data  dataAnswer      `json:"data"`
		}{Addr: a, Data: newDataAnswer(d, damage)}
		if known {
			answer.Code, answer.Name, answer.Range = &code, code.Name(), &around
		}
		return u.json(answer)
	}
	switch {
	case !known && !a.IsGlobalUnicast() || a.IsPrivate():
		u.line(fmt.Sprintf("%s is in no country: it is no public address", a))
	case !known:
		u.line(fmt.Sprintf("%s is in no country that the data knows of", a))
	default:
		u.line(fmt.Sprintf("%s is in %s, %s (%s)", a, code, code.Name(), around))
	}
	tellData(u, d, damage)
	return nil
}

func countryUpdateCommand(g *globals) *cobra.Command {
	var from, codes []string
	var force bool
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Renew the country data",
		Long: "Update fetches what the configuration names (country.source: the five registries), or takes what --from names: their files (all five), a list of\n" +
			"CC<TAB>CIDR, a CSV of first,last,CC, or an MMDB; each may be gzipped. What is not sane is refused, and the last good\n" +
			"data stays: every line must be right, and the size near the last one's.",
		Example: `  sekisho country update
  sekisho country update --country JP
  sekisho country update --from geo-whois-asn-country-ipv4.csv --from geo-whois-asn-country-ipv6.csv`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			needs, err := countryNeeds(cmd.Context(), g, cfg, codes)
			if err != nil {
				return err
			}
			needs.Force = force
			updater := country.NewUpdater(country.Options{StateDir: g.stateDir, Source: daemon.CountrySource(cfg.Country)})
			var d *country.Data
			var changed bool
			if len(from) > 0 {
				changed = true
				d, err = importFiles(g, updater, needs, from)
			} else {
				d, changed, err = updater.Update(cmd.Context(), needs)
			}
			if err != nil {
				return updateError(err, len(from) > 0)
			}
			u := newUI(g)
			taken, told := tellDaemon(cmd.Context(), g)
			if g.json {
				return errors.Join(u.json(struct {
					Changed bool       `json:"changed"`
					Taken   bool       `json:"taken"` // by a daemon that runs
					Data    dataAnswer `json:"data"`
				}{changed, taken, newDataAnswer(d, nil)}), told)
			}
			if changed {
				u.line(fmt.Sprintf("updated: %d countries", len(d.Codes())))
			} else {
				u.line("there is nothing new")
			}
			tellData(u, d, nil)
			if taken {
				u.line("the daemon has taken it")
			}
			return told
		},
	}
	cmd.Flags().StringArrayVar(&from, "from", nil, "take this `FILE` (- is standard input); may be given again")
	cmd.Flags().StringArrayVar(&codes, "country", nil, "the `CC` that matters: judge its size, not that of all together; may be given again")
	cmd.Flags().BoolVar(&force, "force", false, "accept it whatever its size; every line must still be right")
	return cmd
}

// countryNeeds is what new data must meet: the countries that are named, or else
// those of the configuration, keep their size, and who logged in by them lately can
// come in again.
func countryNeeds(ctx context.Context, g *globals, cfg *config.Config, named []string) (needs country.Needs, err error) {
	add := func(to *[]country.Code, codes []string) error {
		for _, s := range codes {
			code, err := parseCountry(s)
			if err != nil {
				return err
			}
			*to = append(*to, code)
		}
		return nil
	}
	if len(named) > 0 {
		err = add(&needs.Allow, named)
	} else {
		c := cfg.Firewall.Countries
		err = errors.Join(add(&needs.Allow, c.Allow), add(&needs.Deny, c.Deny))
	}
	if err != nil || len(needs.Allow)+len(needs.Deny) == 0 {
		return needs, err
	}
	var reply daemon.CountryReply
	err = newClient(g).get(ctx, "country", nil, &reply)
	needs.Keep = reply.Keep
	if errors.Is(err, errSilent) {
		needs.Keep, err = daemon.MustStay(ctx, g.daemonOptions(slog.New(slog.DiscardHandler)), cfg)
		err = aloneError(err)
	}
	return needs, err
}

// tellDaemon has a daemon that runs take the data from its cache. None is no error.
func tellDaemon(ctx context.Context, g *globals) (taken bool, err error) {
	err = newClient(g).post(ctx, "country", struct{}{}, new(daemon.Reply))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, errSilent):
		return false, nil
	}
	return false, fmt.Errorf("the data is renewed, but the daemon has not taken it: %w", err)
}

func importFiles(g *globals, updater *country.Updater, needs country.Needs, names []string) (*country.Data, error) {
	var files []io.Reader
	for _, name := range names {
		if name == "-" {
			files = append(files, g.stdin)
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		files = append(files, f)
	}
	return updater.Import(strings.Join(names, ", "), needs, files...)
}

// updateError adds what to do now.
func updateError(err error, fromFiles bool) error {
	if _, refused := errors.AsType[*country.RefusedError](err); refused {
		return withHint(err, "the last good data stays; if you have looked at the new one and it is right, run this again with --force")
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		return withHint(err, "use sudo")
	case fromFiles:
		return withHint(err, "the last good data stays")
	}
	return withHint(err, "the last good data stays; where this machine may not reach the registries, bring their files here and use --from")
}
