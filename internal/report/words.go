package report

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/iso3166"
	"sekisho/internal/printable"
)

// words are what a report says in a language.
type words struct {
	title   string
	subject func(host string, r Report) string
	period  func(from, to time.Time, days int) string

	attempts, bans, dropped, letIn, logins, reaction string // facts
	attemptsNote                                     func(r Report) string
	bansNote                                         func(b Bans) string
	reactionNote                                     func(r Reaction) string

	byDay, byWeeks                                                      string // sections
	byCountry, byNetwork, bySource, byName, byKind                      string
	causes, topBans, kept, persons                                      string
	keptNote, crowded                                                   string
	day, country, network, source, name, kind, cause, by, person, last  string // heads
	countAttempts, countBans, countSources, countLogins, countAddresses string
	countLines, countPackets, countBytes, share                         string
	rest, unknown, noName                                               string // cells

	attacked string             // nobody did
	damaged  func(n int) string // a warning
	keptBy   map[string]string  // By words
	causeOf  map[string]string  // causes of bans
	duration func(time.Duration) string
	weekFrom func(day string) string
}

func wordsIn(l config.Language) *words {
	if l == config.Japanese {
		return japanese()
	}
	return english()
}

func english() *words {
	plural := func(n int, one, many string) string {
		if n == 1 {
			return "1 " + one
		}
		return printable.Grouped(n) + " " + many
	}
	return &words{
		title: "SSH report",
		subject: func(host string, r Report) string {
			return fmt.Sprintf("[%s] SSH in %s: %s, %s", host, plural(r.Days, "day", "days"), plural(r.Attempts, "attempt", "attempts"), plural(r.Bans.Count, "ban", "bans"))
		},
		period: func(from, to time.Time, days int) string {
			return fmt.Sprintf("%s to %s (%s)", from.Format(time.DateOnly), to.Format("2006-01-02 15:04 -07:00"), plural(days, "day", "days"))
		},
		attempts: "attempts", bans: "bans", dropped: "packets kept out", letIn: "connections let in", logins: "logins", reaction: "time to a ban",
		attemptsNote: func(r Report) string {
			least := ""
			if r.Crowded {
				least = "at least "
			}
			return fmt.Sprintf("from %s%s in %s, %s", least, plural(r.Sources, "source", "sources"), plural(r.Networks, "network", "networks"), plural(r.Names, "name", "names"))
		},
		bansNote: func(b Bans) string {
			s := fmt.Sprintf("of %s; %s were repeats", plural(b.Prefixes, "prefix", "prefixes"), percent(b.RepeatRate()))
			if b.WithoutEnd > 0 {
				s += fmt.Sprintf("; %s without end", printable.Grouped(b.WithoutEnd))
			}
			if b.Lifted > 0 {
				s += fmt.Sprintf("; %s lifted by hand", printable.Grouped(b.Lifted))
			}
			return s
		},
		reactionNote: func(r Reaction) string {
			return fmt.Sprintf("median from the first failure; nine in ten within %s (%s)", durationEnglish(r.P90), plural(r.Bans, "ban", "bans"))
		},
		byDay: "By day", byWeeks: "By week", byCountry: "By country", byNetwork: "By network", bySource: "By source", byName: "By name that was tried", byKind: "By kind of message",
		causes: "Why banned", topBans: "Banned most often", kept: "What the rules kept out", persons: "Who logged in, and from where",
		keptNote: "Packets of new connections; a client that is dropped tries a few times more.",
		crowded:  "There were more than can be told apart: rows may lack some attempts, which the last row has.",
		day:      "DAY", country: "COUNTRY", network: "NETWORK", source: "SOURCE", name: "NAME", kind: "KIND", cause: "CAUSE", by: "BY", person: "PERSON", last: "LAST",
		countAttempts: "ATTEMPTS", countBans: "BANS", countSources: "SOURCES", countLogins: "LOGINS", countAddresses: "ADDRESSES",
		countLines: "LINES", countPackets: "PACKETS", countBytes: "BYTES", share: "SHARE",
		rest: "all others", unknown: "unknown", noName: "(no name)",
		attacked: "Nobody attacked, and nobody was banned.",
		damaged: func(n int) string {
			return fmt.Sprintf("%s of the state file could not be read and %s left out.", plural(n, "row", "rows"), map[bool]string{true: "was", false: "were"}[n == 1])
		},
		keptBy: map[string]string{
			ByBans: "bans", ByCountry: "the list of countries", ByRate: "the rate limit", ByExposure: "SSH is not for everybody", ByOther: "fragments, and what is closed beside SSH",
		},
		causeOf: map[string]string{
			"attempts": "too many attempts", "distributed": "part of an attack from many sources", "escalation": "a network with many banned sources", "manual": "by hand", "adopted": "found in the kernel",
		},
		duration: durationEnglish,
		weekFrom: func(day string) string { return "from " + day },
	}
}

func japanese() *words {
	times := func(n int) string { return printable.Grouped(n) + " 回" }
	return &words{
		title: "SSH レポート",
		subject: func(host string, r Report) string {
			return fmt.Sprintf("[%s] SSH %d 日間のレポート: ログイン試行 %s、遮断 %s", host, r.Days, times(r.Attempts), times(r.Bans.Count))
		},
		period: func(from, to time.Time, days int) string {
			return fmt.Sprintf("%s から %s まで (%d 日間)", from.Format(time.DateOnly), to.Format("2006-01-02 15:04 -07:00"), days)
		},
		attempts: "ログイン試行", bans: "遮断", dropped: "破棄したパケット", letIn: "通した接続", logins: "ログイン", reaction: "遮断までの時間",
		attemptsNote: func(r Report) string {
			least := ""
			if r.Crowded {
				least = "少なくとも "
			}
			return fmt.Sprintf("%s送信元 %s 件、ネットワーク %s 件、ユーザー名 %s 個", least, printable.Grouped(r.Sources), printable.Grouped(r.Networks), printable.Grouped(r.Names))
		},
		bansNote: func(b Bans) string {
			s := fmt.Sprintf("プレフィックス %s 件、うち再犯 %s", printable.Grouped(b.Prefixes), percent(b.RepeatRate()))
			if b.WithoutEnd > 0 {
				s += fmt.Sprintf("、無期限 %s", times(b.WithoutEnd))
			}
			if b.Lifted > 0 {
				s += fmt.Sprintf("、手動で解除 %s", times(b.Lifted))
			}
			return s
		},
		reactionNote: func(r Reaction) string {
			return fmt.Sprintf("最初の失敗からの中央値。9 割は %s以内 (遮断 %s)", durationJapanese(r.P90), times(r.Bans))
		},
		byDay: "日別", byWeeks: "週別", byCountry: "国別", byNetwork: "ネットワーク別", bySource: "送信元別", byName: "試されたユーザー名", byKind: "メッセージの種類",
		causes: "遮断の理由", topBans: "遮断の多い送信元", kept: "規則が通さなかったもの", persons: "ログインした人と場所",
		keptNote: "新しい接続のパケット数です。破棄されたクライアントは数回送り直します。",
		crowded:  "区別できる上限を超えました。各行の試行の一部は最後の行に含まれています。",
		day:      "日付", country: "国", network: "ネットワーク", source: "送信元", name: "ユーザー名", kind: "種類", cause: "理由", by: "規則", person: "人", last: "最後",
		countAttempts: "試行", countBans: "遮断", countSources: "送信元", countLogins: "ログイン", countAddresses: "アドレス",
		countLines: "行", countPackets: "パケット", countBytes: "バイト", share: "割合",
		rest: "その他すべて", unknown: "不明", noName: "(名前なし)",
		attacked: "攻撃はなく、誰も遮断していません。",
		damaged: func(n int) string {
			return fmt.Sprintf("状態ファイルの %s 行が壊れていたため、除いて集計しました。", printable.Grouped(n))
		},
		keptBy: map[string]string{
			ByBans: "遮断", ByCountry: "国のリスト", ByRate: "頻度の制限", ByExposure: "SSH を公開していない", ByOther: "断片化パケット、SSH 以外",
		},
		causeOf: map[string]string{
			"attempts": "ログイン試行の回数", "distributed": "多数の送信元からの攻撃", "escalation": "遮断の多いネットワーク", "manual": "手動", "adopted": "カーネルにあった遮断",
		},
		duration: durationJapanese,
		weekFrom: func(day string) string { return day + " から" },
	}
}

// countryName is a country's code with its name.
func (w *words) countryName(code string) string {
	if code == "" {
		return w.unknown
	}
	c, err := iso3166.Parse(code)
	if err != nil {
		return code
	}
	return code + " " + c.Name()
}

func percent(share float64) string {
	if share > 0 && share < 0.01 {
		return "<1%"
	}
	return strconv.Itoa(int(share*100+0.5)) + "%"
}

// shareOf is n of all in percent.
func shareOf(n, all int) string {
	if all <= 0 {
		return percent(0)
	}
	return percent(float64(n) / float64(all))
}

// durationIn says d in the units given for days, hours, minutes, seconds: two of them.
func durationIn(d time.Duration, units [4]string) string {
	if d < time.Minute {
		seconds := d.Seconds()
		if d < 10*time.Second {
			return strconv.FormatFloat(math.Round(seconds*10)/10, 'f', -1, 64) + units[3]
		}
		return strconv.Itoa(int(seconds+0.5)) + units[3]
	}
	d = d.Round(time.Second)
	n := [4]int{int(d / (24 * time.Hour)), int(d / time.Hour % 24), int(d / time.Minute % 60), int(d / time.Second % 60)}
	for i := range 3 {
		if n[i] == 0 {
			continue
		}
		s := strconv.Itoa(n[i]) + units[i]
		if n[i+1] > 0 {
			s += " " + strconv.Itoa(n[i+1]) + units[i+1]
		}
		return s
	}
	return strconv.Itoa(n[3]) + units[3]
}

func durationEnglish(d time.Duration) string {
	return durationIn(d, [4]string{" d", " h", " min", " s"})
}

func durationJapanese(d time.Duration) string {
	return durationIn(d, [4]string{" 日", " 時間", " 分", " 秒"})
}
