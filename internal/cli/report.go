package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/config"
	"sekisho/internal/country"
	"sekisho/internal/report"
	"sekisho/internal/store"
)

func reportCommand(g *globals) *cobra.Command {
	var days int
	var page, language string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Tell of the days gone by: attacks, bans, what was kept out, who logged in",
		Long: "Tell of the days gone by: attempts by day, country, network, source, name and kind; bans; what the rules kept out; who\n" +
			"logged in from where. It asks the daemon; where none runs, or with --state-dir, it reads the state itself, which needs root.",
		Example: `  sekisho report
  sekisho report --days 30 --html report.html
  sekisho report --html - --lang ja > week.html`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if days < 1 || days > report.MaxDays {
				return &exitError{exitUsage, withHint(fmt.Errorf("--days %d", days), fmt.Sprintf("give 1 to %d days", report.MaxDays))}
			}
			if page != "" && g.json {
				return &exitError{exitUsage, withHint(errors.New("--html and --json are two forms"), "give one of them")}
			}
			if cmd.Flags().Changed("html") && page == "" {
				return &exitError{exitUsage, withHint(errors.New("--html has no file"), "give a file, or - for standard output")}
			}
			l := localeLanguage(os.Getenv)
			if language != "" {
				if l = config.Language(language); l != config.English && l != config.Japanese {
					return &exitError{exitUsage, withHint(fmt.Errorf("there is no language %q", language), "give en or ja")}
				}
			}
			r, err := reportOf(cmd.Context(), g, days)
			if err != nil {
				return err
			}
			u := newUI(g)
			switch {
			case g.json:
				return u.json(r)
			case page == "-":
				return r.WriteHTML(g.stdout, l)
			case page != "":
				return writePage(r, page, l)
			}
			columns := 80
			if is, n := terminal(g.stdout); is {
				columns = min(n, 120)
			}
			return r.WriteText(g.stdout, report.TextOptions{Language: l, Columns: columns, Color: u.colorOut})
		},
	}
	cmd.Flags().IntVar(&days, "days", 7, "of the last `N` days, today included (1 to 400)")
	cmd.Flags().StringVar(&page, "html", "", "write a page that stands alone to a `FILE`, - for standard output")
	cmd.Flags().StringVar(&language, "lang", "", "the `LANGUAGE`, en or ja (default: by LC_ALL, LC_MESSAGES, LANG)")
	return cmd
}

// writePage writes the page whole. Who logs in from where is in it: a new file is for
// its owner alone, one that was there stays as open as it was.
func writePage(r report.Report, path string, l config.Language) error {
	var page bytes.Buffer
	if err := r.WriteHTML(&page, l); err != nil {
		return err
	}
	if err := os.WriteFile(path, page.Bytes(), 0o600); err != nil {
		return withHint(fmt.Errorf("write the page: %w", err), "give another file, or - for standard output")
	}
	return nil
}

// localeLanguage is the language that the locale asks for. Text is UTF-8: of a locale
// that is not, nothing but ASCII is sure to be seen.
func localeLanguage(getenv func(string) string) config.Language {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		locale := strings.ToLower(getenv(name))
		if locale == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(locale, "ja"); ok && (rest == "" || rest[0] == '_' || rest[0] == '.') && strings.Contains(strings.ReplaceAll(rest, "-", ""), "utf8") {
			return config.Japanese
		}
		return config.English
	}
	return config.English
}

// reportOf has the daemon make the report, or makes it where none runs or where the
// state's place was given.
func reportOf(ctx context.Context, g *globals, days int) (report.Report, error) {
	var r report.Report
	var silent error
	if !g.stateSet || g.socketSet { // whose state that is, its daemon knows
		err := newClient(g).get(ctx, "report", url.Values{"days": {strconv.Itoa(days)}}, &r)
		if !errors.Is(err, errSilent) {
			return r, err
		}
		silent = err
	}
	r, err := reportOfState(ctx, g.stateDir, days)
	switch {
	case err == nil:
		return r, nil
	case silent != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
		return r, silent
	case errors.Is(err, fs.ErrNotExist):
		return r, withHint(err, "there is a state where a daemon has run: give its --state-dir")
	case errors.Is(err, fs.ErrPermission):
		return r, withHint(err, "use sudo")
	case errors.Is(err, store.ErrNewer):
		return r, err
	case errors.Is(err, store.ErrCorrupt):
		return r, withHint(err, "the daemon sets it aside and carries over what is sound: systemctl start sekisho")
	case errors.Is(err, store.ErrDegraded):
		return r, withHint(err, "a daemon that runs holds it: leave out --state-dir to ask the daemon")
	}
	return r, err
}

// reportOfState makes the report without a daemon. The state is read, nothing else.
func reportOfState(ctx context.Context, dir string, days int) (report.Report, error) {
	st, err := store.OpenReadOnly(ctx, filepath.Join(dir, "state.db"), store.Options{})
	if err != nil {
		return report.Report{}, err
	}
	defer st.Close()
	var places *report.Places
	if data, _ := country.NewUpdater(country.Options{StateDir: dir}).Load(); data != nil { // a damaged cache: older data
		if places, err = report.NewPlaces(data); err != nil {
			return report.Report{}, err
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return report.Make(ctx, st, report.Options{Days: days, Now: time.Now(), Host: host, Places: places})
}
