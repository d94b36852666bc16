package message

import (
	"strings"
	"time"

	"sekisho/internal/notify"
	"sekisho/internal/printable"
)

type japanese struct{}

func (japanese) Lang() string { return "ja" }

func (japanese) Duration(d time.Duration) string {
	name := map[time.Duration]string{24 * time.Hour: " 日", time.Hour: " 時間", time.Minute: " 分", time.Second: " 秒"}
	first, unit, second, lesser := span(d)
	s := printable.Grouped(first) + name[unit]
	if second > 0 {
		s += " " + printable.Grouped(second) + name[lesser]
	}
	return s
}

func (japanese) List(items []string, more bool) string {
	s := strings.Join(items, "、")
	if more {
		s += " など"
	}
	return s
}

func (japanese) Counted(name, n string) string { return name + "×" + n }

func (japanese) Nth(n int) string { return printable.Grouped(n) + " 回目" }

func (j japanese) ThisIs(n int) string { return "今回が " + j.Nth(n) }

func (japanese) Country(code string) string {
	if len(code) != 2 || code[0] < 'A' || code[0] > 'Z' || code[1] < 'A' || code[1] > 'Z' {
		return ""
	}
	if _, rest, ok := strings.Cut("\n"+japaneseCountries, "\n"+code+" "); ok {
		name, _, _ := strings.Cut(rest, "\n")
		return name
	}
	return ""
}

func (japanese) Message(kind string) (string, bool) {
	switch kind {
	case "failed":
		return "ログインの失敗", true
	case "failed_none":
		return "認証方式なしのログイン", true
	case "failed_password":
		return "パスワードの誤り", true
	case "failed_publickey":
		return "鍵の拒否", true
	case "failed_keyboard_interactive":
		return "応答の誤り (keyboard-interactive)", true
	case "failed_hostbased":
		return "ホストベース認証の拒否", true
	case "failed_gssapi":
		return "Kerberos 認証の拒否", true
	case "unknown":
		return "未知のメッセージ", true
	case "connection":
		return "接続", true
	case "accepted":
		return "ログイン", true
	case "postponed":
		return "途中までのログイン", true
	case "invalid_user":
		return "存在しないユーザー", true
	case "pam_failure":
		return "PAM による拒否", true
	case "pam_more_failures":
		return "PAM による失敗の集計", true
	case "pam_error":
		return "PAM のエラー", true
	case "pam_user_unknown":
		return "PAM が知らないユーザー", true
	case "max_attempts", "too_many_failures":
		return "一つの接続での失敗回数の超過", true
	case "root_refused":
		return "root ログインの拒否", true
	case "not_allowed":
		return "ログインを許可されていないユーザー", true
	case "change_of_user":
		return "途中でのユーザー名の変更", true
	case "disconnecting":
		return "sshd による切断", true
	case "closed":
		return "ログイン前の切断", true
	case "reset":
		return "接続のリセット", true
	case "disconnected", "received_disconnect":
		return "ログイン前の終了通知", true
	case "auth_fail_disconnect":
		return "認証の断念", true
	case "session_opened":
		return "セッションの開始", true
	case "session_closed":
		return "セッションの終了", true
	case "no_identification":
		return "何も送らない接続", true
	case "bad_identification":
		return "SSH ではない通信", true
	case "kex_closed":
		return "鍵交換前の切断", true
	case "negotiation_failed":
		return "共通のアルゴリズムなし", true
	case "packet_error":
		return "プロトコル違反", true
	case "timeout":
		return "ログインの時間切れ", true
	case "refused_by_wrappers":
		return "hosts.deny による拒否", true
	case "reverse_mapping":
		return "DNS 名の不一致", true
	case "penalty":
		return "sshd のペナルティ", true
	case "drop_penalty":
		return "ペナルティ中の拒否", true
	case "drop_max_startups":
		return "MaxStartups による拒否", true
	case "crash":
		return "sshd プロセスの異常終了", true
	case "note":
		return "その他の記録", true
	}
	return "", false
}

func (japanese) Method(method, raw string) string {
	switch method {
	case "publickey":
		return "公開鍵"
	case "password":
		return "パスワード"
	case "keyboard_interactive":
		return "キーボード対話 (keyboard-interactive)"
	case "gssapi":
		return "Kerberos (GSSAPI)"
	case "hostbased":
		return "ホストベース"
	}
	return raw
}

func (japanese) Cause(cause, raw string) string {
	switch cause {
	case "attempts":
		return "試行回数の超過"
	case "distributed":
		return "多数のアドレスからユーザー名を狙う攻撃の一部"
	case "escalation":
		return "同じネットワークで多数のアドレスを遮断"
	case "manual":
		return "手動による遮断"
	}
	return raw
}

func (japanese) Nameless() string { return "(空の名前)" }
func (japanese) HostAnd(host string, more int) string {
	return host + " ほか " + printable.Grouped(more) + " 台"
}
func (japanese) NoEnd() string                        { return "無期限 (解除するまで)" }
func (japanese) NoEndShort() string                   { return "無期限" }
func (japanese) UntilFor(until, length string) string { return until + " (" + length + ")" }

func (j japanese) Banned(who string, b *notify.BanFacts, names string) string {
	s := ""
	if !b.Enforced {
		s = "予行演習: "
	}
	if b.Cause == "escalation" {
		s += "ネットワーク "
	}
	s += who + " を"
	if b.Cause == "manual" {
		s += "手動で"
	}
	s += "遮断"
	if b.Count > 1 {
		s += " (" + j.Nth(b.Count) + ")"
	}
	switch {
	case b.Cause == "escalation":
		return s + ": 内部の " + printable.Grouped(b.Attempts) + " アドレスを遮断済み"
	case b.Cause == "manual":
		if holder := clean(b.Holder, 40); holder != "" {
			s += " (" + holder + ")"
		}
		if reason := clean(b.Reason, 80); reason != "" {
			s += ": " + reason
		}
		return s
	case b.Attempts > 0 && names != "":
		join := " で "
		if strings.HasSuffix(names, "など") {
			join = "で "
		}
		return s + ": " + names + join + printable.Grouped(b.Attempts) + " 回の試行"
	case b.Attempts > 0:
		return s + ": " + printable.Grouped(b.Attempts) + " 回の試行"
	}
	return s
}

func (japanese) Unbanned(who, holder string) string {
	s := who + " の遮断を解除"
	if holder != "" {
		s += " (" + holder + ")"
	}
	return s
}

func (japanese) AttackBegan(bans, attempts int) string {
	return "攻撃を受けています: これまでに遮断 " + printable.Grouped(bans) + " 件、試行 " + printable.Grouped(attempts) + " 回"
}

func (japanese) AttackEnded(bans, attempts int, lasted string) string {
	s := "攻撃が収まりました: "
	if lasted != "" {
		s += lasted + "で"
	}
	return s + "遮断 " + printable.Grouped(bans) + " 件、試行 " + printable.Grouped(attempts) + " 回"
}

func (japanese) LoggedIn(doubt bool, user, who string) string {
	if doubt {
		return "疑わしいログイン: " + user + "、" + who + " から"
	}
	return "初めての場所からのログイン: " + user + "、" + who + " から"
}

func (japanese) Headline(k notify.Kind, state notify.State, raw string) string {
	var s string
	switch k {
	case notify.Trial:
		switch state {
		case notify.Began:
			s = "変更の試行を始めました"
		case notify.Confirmed:
			s = "試行が確認されました"
		case notify.Reverted:
			s = "試行を元に戻しました"
		default:
			s = "変更の試行"
		}
	case notify.Drift:
		s = "規則が外部から変更されました"
	case notify.Conntrack:
		s = "コネクション追跡の警告"
		if state == notify.Over {
			s = "コネクション追跡は正常に戻りました"
		}
	case notify.Country:
		s = "国のデータを採用しませんでした"
		if state == notify.Over {
			s = "国のデータは正常に戻りました"
		}
	case notify.LeaseStuck:
		s = "期限切れの規則が残っています"
		if state == notify.Over {
			s = "期限切れの規則はなくなりました"
		}
	case notify.GroupFinding:
		s = "セキュリティグループの指摘"
	case notify.GateApproval:
		s = "承認の依頼"
	case notify.GateBreakGlass:
		s = "緊急の開放"
	case notify.GateDisabled:
		s = "利用者の停止"
	case notify.Degraded:
		switch state {
		case notify.Began:
			s = "関所に異常があります"
		case notify.Over:
			s = "関所は正常に戻りました"
		default:
			s = "関所の動作状況"
		}
	case notify.Report:
		s = "週次レポート"
	case notify.Test:
		s = "テスト通知"
	case notify.Ban, notify.Repeat:
		s = "遮断"
	case notify.Unban:
		s = "遮断の解除"
	case notify.AttackBegan:
		s = "攻撃を受けています"
	case notify.AttackEnded:
		s = "攻撃が収まりました"
	case notify.Login:
		s = "初めての場所からのログイン"
	case notify.LoginDoubt:
		s = "疑わしいログイン"
	default:
		if s = raw; s == "" {
			s = "通知"
		}
	}
	return s
}

func (japanese) Digest(n int) string { return printable.Grouped(n) + " 件の通知" }

func (japanese) BanLead(b *notify.BanFacts, lifted bool, until string) string {
	switch {
	case lifted:
		return "規則が許す範囲で再び接続できます。これまでに数えた試行は消去しました。"
	case !b.Enforced:
		return "実際には何も遮断していません。予行演習中です (guard.enforce: no)。"
	case b.Until.IsZero():
		return "解除するまで、この相手からのパケットは SSH に届きません。"
	}
	return until + " まで、この相手からのパケットは SSH に届きません。"
}

func (japanese) AttackLead(ended bool) string {
	if ended {
		return "攻撃の全体は次のとおりです。これ以降の遮断は、また一件ずつお知らせします。"
	}
	return "多数の相手を遮断しています。攻撃が続く間はまとめてお知らせし、収まったときに改めてお知らせします。"
}

func (japanese) LoginLead(doubt bool) string {
	if doubt {
		return "ログインに成功していますが、それまでの経緯から本人かどうか疑わしい点があります。心当たりがあれば、対処は不要です。"
	}
	return "このユーザーが、この国またはネットワークからログインしたのは初めてです。心当たりがあれば、対処は不要です。"
}

func (japanese) Lead(k notify.Kind) string {
	switch k {
	case notify.Trial:
		return "試行中の変更は、新しい規則を通って改めてログインすることで確認されます。確認されなければ、ひとりでに元の状態へ戻ります。"
	case notify.Drift:
		return "カーネル内の関所の規則を、ほかの誰か、またはほかのプログラムが変更しました。規則は元に戻しました。"
	case notify.Conntrack:
		return "コネクション追跡テーブルがいっぱいになると、新しい接続は、あなたのものも含めて破棄されます。"
	case notify.Country:
		return "国ごとのアドレスの新しいデータに不審な点があります。最後に正しかったデータを使い続けています。"
	case notify.LeaseStuck:
		return "許可の期限が過ぎましたが、通すための規則がまだ残っています。"
	case notify.GroupFinding:
		return "セキュリティグループに、あるべき状態と異なる点があります。"
	case notify.GateApproval:
		return "ほかの人の承認が必要な接続先を、開けてほしいという依頼です。まだ何も開いていません。"
	case notify.GateBreakGlass:
		return "本来は承認が必要な接続先を、緊急のため承認なしで開けた人がいます。"
	case notify.GateDisabled:
		return "開けていたものはすべて閉じられ、この人はもう何も開けられません。"
	case notify.Test:
		return "通知は届いています。何も起きておらず、対処は不要です。"
	}
	return ""
}

func (japanese) Span(from, to string) string {
	if from == to {
		return from + " の出来事です。"
	}
	return from + " から " + to + " までの出来事です。"
}

func (japanese) AttackAdvice(ended bool) string {
	s := "対処は不要です。"
	if !ended {
		s = "対処は不要です。攻撃してくる相手は遮断されます。"
	}
	return s + "firewall.countries や exposure: on_request を設定すると、sshd に到達できる相手そのものを減らせます。"
}

func (japanese) LoginAdvice() string {
	return "本人ではない場合は、次の順に対処してください。"
}

func (japanese) CountOf(k notify.Kind, n int) string {
	return japanese{}.FigureOf(k, n) + " " + printable.Grouped(n) + " 件"
}

func (japanese) FigureOf(k notify.Kind, n int) string {
	switch k {
	case notify.Ban:
		return "遮断"
	case notify.Repeat:
		return "再遮断"
	case notify.Unban:
		return "遮断の解除"
	case notify.AttackBegan:
		return "攻撃の開始"
	case notify.AttackEnded:
		return "攻撃の終息"
	case notify.Login:
		return "初めての場所からのログイン"
	case notify.LoginDoubt:
		return "疑わしいログイン"
	case notify.Trial:
		return "変更の試行"
	case notify.Drift:
		return "外部からの変更"
	case notify.Conntrack:
		return "コネクション追跡の警告"
	case notify.Country:
		return "国データの不採用"
	case notify.LeaseStuck:
		return "期限切れの規則"
	case notify.GroupFinding:
		return "セキュリティグループの指摘"
	case notify.GateApproval:
		return "承認の依頼"
	case notify.GateBreakGlass:
		return "緊急の開放"
	case notify.GateDisabled:
		return "利用者の停止"
	case notify.Degraded:
		return "関所の動作状況"
	case notify.Report:
		return "レポート"
	case notify.Test:
		return "テスト"
	}
	return "その他"
}

func (japanese) OthersOf(n int) string     { return "ほか " + printable.Grouped(n) + " 件" }
func (japanese) FigureOthers(n int) string { return "その他" }

func (japanese) Level(l notify.Level) string {
	switch l {
	case notify.Alarm:
		return "緊急"
	case notify.Warning:
		return "警告"
	}
	return "お知らせ"
}

func (j japanese) LevelTitle(l notify.Level) string { return j.Level(l) }

func (j japanese) BansTitle(l notify.Level) string {
	if l == notify.Info {
		return "遮断"
	}
	return "遮断 (" + j.Level(l) + ")"
}

func (japanese) AndMore(n int) string { return "ほか " + printable.Grouped(n) + " 件" }
func (japanese) NotShown(n int) string {
	return "ほかに " + printable.Grouped(n) + " 件あります。ここでは件数だけをお知らせします。"
}
func (japanese) More() string { return "そのほか" }

func (japanese) Who() string     { return "相手" }
func (japanese) What() string    { return "何が起きたか" }
func (japanese) Why() string     { return "疑わしい理由" }
func (japanese) Log() string     { return "ログ" }
func (japanese) Sources() string { return "攻撃元" }
func (japanese) Do() string      { return "対処" }

func (japanese) LabelAddress() string { return "アドレス" }
func (japanese) LabelReverse() string { return "DNS 名" }
func (japanese) LabelOwner() string   { return "保有者" }
func (japanese) LabelNetwork() string { return "ネットワーク" }
func (japanese) LabelAS() string      { return "AS" }
func (japanese) LabelCountry() string { return "国" }
func (japanese) LabelCC() string      { return "国" }
func (japanese) LabelAbuse() string   { return "苦情の連絡先" }
func (japanese) LabelSource() string  { return "情報源" }
func (japanese) LabelCause() string   { return "原因" }
func (japanese) LabelAttempts(cause string) string {
	if cause == "escalation" {
		return "内部の遮断数"
	}
	return "試行回数"
}
func (japanese) LabelTries() string          { return "試行" }
func (japanese) LabelNames() string          { return "試された名前" }
func (japanese) LabelKinds() string          { return "内訳" }
func (japanese) LabelPlaces() string         { return "国別" }
func (japanese) LabelFrom() string           { return "遮断の開始" }
func (japanese) LabelUntil() string          { return "期限" }
func (japanese) LabelCount() string          { return "遮断の回数" }
func (japanese) LabelNth() string            { return "回目" }
func (japanese) LabelReason() string         { return "理由" }
func (japanese) LabelBy() string             { return "実行者" }
func (japanese) LabelLifted() string         { return "解除" }
func (japanese) LabelLiftedBy() string       { return "解除した人" }
func (japanese) LabelBegan() string          { return "開始" }
func (japanese) LabelEnded() string          { return "終息" }
func (japanese) LabelLasted() string         { return "継続時間" }
func (japanese) LabelUser() string           { return "ユーザー" }
func (japanese) LabelTime() string           { return "日時" }
func (japanese) LabelMethod() string         { return "認証方式" }
func (japanese) LabelBefore() string         { return "これまでの場所" }
func (japanese) LabelHost() string           { return "ホスト" }
func (japanese) FigureBans(n int) string     { return "遮断 (件)" }
func (japanese) FigureAttempts(n int) string { return "試行 (回)" }

func (japanese) DoUnban() string    { return "遮断を解除する:" }
func (japanese) DoBanAgain() string { return "もう一度遮断する:" }
func (japanese) DoWhy() string {
	return "この相手についてわかっていることをすべて見る:"
}
func (japanese) DoBans() string       { return "いま有効な遮断を見る:" }
func (japanese) DoStatus() string     { return "ホストの状態を見る:" }
func (japanese) DoCountry() string    { return "国のデータを見る:" }
func (japanese) DoLeases() string     { return "一時的に許可されている相手を見る:" }
func (japanese) DoReap() string       { return "期限の過ぎた規則を取り除く:" }
func (japanese) DoWho() string        { return "誰がどの規則で通れるかを見る:" }
func (japanese) DoPlanGroups() string { return "どう直されるかを見る:" }
func (japanese) DoJournal() string    { return "関所自身のログを見る:" }
func (japanese) DoWhyLogin() string {
	return "このアドレスについてわかっていることをすべて見る:"
}
func (japanese) DoBanLogin() string {
	return "そこからログイン中の人がいても、アドレスを 1 日遮断する:"
}
func (japanese) DoEndSessions() string {
	return "このユーザーのセッションをすべて終了する:"
}
func (japanese) DoLock() string {
	return "鍵でもパスワードでもログインできないよう、アカウントを停止する:"
}
func (japanese) DoUnlock() string {
	return "問題がなくなったら、アカウントの停止を解除する:"
}
func (japanese) DoKeys() string { return "覚えのない鍵がないか確かめる:" }

func (japanese) Foot(host, at string) string {
	s := "関所 (sekisho)"
	if host != "" {
		s += "、" + host
	}
	if at != "-" {
		s += "、" + at
	}
	return s
}
