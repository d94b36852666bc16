package page

import (
	"regexp"
	"strings"
	"sync"
)

// The gate says in English why something is so, for the API, the command line and the log
// too. What of that stands in pages is put into Japanese here, sentence by sentence: {}
// stands for what is in between. A sentence that is not here stays English, and says so.
var sentences = [][2]string{
	// Why a door is opened, or not: package access.
	{"{} is for {}, and {} is one of them", "{1} は {2} 向けで、{3} さんも含まれます"},
	{"{} is for {}, and {} is in no group", "{1} は {2} 向けですが、{3} さんはどのグループにも入っていません"},
	{"{} is for {}, and {} is in {}", "{1} は {2} 向けですが、{3} さんのグループは {4} です"},
	{"{} is for {}", "{1} は {2} さん向けです"},
	{"{} is always let in from {}", "{1} さんは {2} から常に許可されます"},
	{"{} opens for nobody on request: its exposure is fixed", "{1} は固定アドレス専用で、申請では開きません（exposure: fixed）"},
	{"it lets fixed addresses in only; `exposure: on_request` would open it on request", "固定アドレスだけを許可しています。`exposure: on_request` にすると申請で開けられます"},
	{"nobody comes from {}", "{1} は接続元になりえないアドレスです"},
	{"give the address that you are seen by", "接続先から見える自分のアドレスを指定してください"},
	{"{} may not break the glass of {}", "{1} さんには {2} を緊急で開ける権限がありません"},
	{"ask without breaking the glass", "通常の申請を行ってください"},
	{"its hours are {}; they begin next at {}", "利用できる時間帯は {1} です。次の開始は {2} です"},
	{"its hours are {}", "利用できる時間帯は {1} です"},
	{"it shuts at {}, when they end", "時間帯が終わる {1} に閉じます"},
	{"it is opened for {} at most, and {} was asked for", "開けられるのは最長 {1} ですが、{2} の申請です"},
	{"it is opened for {} at most", "最長 {1} 開けられます"},
	{"{} may break the glass: neither approval nor hours are asked for, and everybody is told", "{1} さんは緊急で開けられます。承認も時間帯も問いませんが、全員に通知されます"},
	{"it needs a reason, and one is given", "理由が必要で、記入されています"},
	{"it needs a reason, and none is given", "理由が必要ですが、まだ記入されていません"},
	{"breaking the glass needs a reason, and none is given", "緊急で開けるには理由が必要ですが、記入されていません"},
	{"it needs a yes of {}, and {} said it", "{1} の承認が必要で、{2} さんが承認しました"},
	{"it needs a yes of {}, and nobody said it yet", "{1} の承認が必要ですが、まだ承認されていません"},
	{"whoever keeps the configuration can put {} into one of those groups", "設定の管理者に、{1} さんをいずれかのグループへ加えるよう依頼してください"},
	{"ask for it: it opens once they say yes at {}", "申請してください。{1} で承認されると開きます"},
	{"in an emergency, break the glass", "緊急時は、承認なしで開けられます"},
	{"in an emergency, ask {}", "緊急時は、{1} に依頼してください"},
	{"say why: --reason TEXT", "理由を記入してください"},
	{"ask for at most that: --for {}", "{1} 以下で申請してください"},
	{"ask again then, or ask whoever keeps the configuration to change `hours`", "その時刻以降に申請するか、設定の管理者に `hours` の変更を依頼してください"},

	// What one should know of a grant: package gate.
	{"{} is also the address of {}: whoever is behind it gets in while either of you has it open", "{1} は {2} さんのアドレスでもあります。どちらかが開けている間は、同じアドレスからの接続がすべて許可されます"},
	{"a rule that is not sekisho's lets it in already: closing here closes nothing", "Sekisho が作成していないルールですでに許可されています。ここで閉じても、そのルールは残ります"},
	{"{} is not connected to the gate: it is opened when it is", "{1} は現在ゲートに接続していません。接続が戻りしだい開きます"},
	{"{} has not said yet that it is open", "{1} から、開いたという報告がまだありません"},
	{"{} has seen nobody come from {} yet, and turned away {}, where you are now: open it from here", "{1} にはまだ {2} からの接続がなく、いまお使いの {3} からの接続は拒否されました。この画面からもう一度開けてください"},
	{"{} has seen nobody come from {} yet, and turned away {} and {} more: if you know one as your own, open it for that by `sekisho open {} --ip ADDRESS`; strangers knock, too", "{1} にはまだ {2} からの接続がなく、{3} ほか {4} 件からの接続は拒否されました。確かにご自分のアドレスだと分かるものがあれば、`sekisho open {5} --ip アドレス` で開けてください。無関係な第三者の接続も含まれます"},
	{"{} has seen nobody come from {} yet, and turned away {}: if you know one as your own, open it for that by `sekisho open {} --ip ADDRESS`; strangers knock, too", "{1} にはまだ {2} からの接続がなく、{3} からの接続は拒否されました。確かにご自分のアドレスだと分かるものがあれば、`sekisho open {4} --ip アドレス` で開けてください。無関係な第三者の接続も含まれます"},
}

type sentence struct {
	is *regexp.Regexp
	ja string
}

var slot = regexp.MustCompile(`\{(\d)\}`)

var known = sync.OnceValue(func() []sentence {
	all := make([]sentence, len(sentences))
	for i, s := range sentences {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(s[0]), `\{\}`, `(.+?)`)
		all[i] = sentence{regexp.MustCompile(`^` + pattern + `$`), slot.ReplaceAllString(s[1], `$${$1}`)}
	}
	return all
})

// say is what the gate says in the language of the page, and which language that is.
func (f Frame) say(s string) (words, lang string) {
	s = text(s)
	if f.Words.Lang == string(English) || s == "" {
		return s, f.Words.Lang
	}
	if ja, ok := translate(s); ok {
		return ja, string(Japanese)
	}
	var all []string
	for part := range strings.SplitSeq(s, "; ") {
		ja, ok := translate(part)
		if !ok {
			return s, string(English)
		}
		all = append(all, ja)
	}
	return strings.Join(all, "。"), string(Japanese)
}

func translate(s string) (string, bool) {
	if len(s) > 1000 {
		return "", false
	}
	for _, k := range known() {
		if m := k.is.FindStringSubmatchIndex(s); m != nil {
			return string(k.is.ExpandString(nil, k.ja, s, m)), true
		}
	}
	return "", false
}
