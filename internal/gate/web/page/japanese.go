package page

import (
	"fmt"
	"time"

	"sekisho/internal/gate/api"
)

func japanese() *Words {
	return &Words{
		Lang: "ja", OtherLang: "en", Other: "English",

		Brand: "Sekisho 関所", Skip: "本文へ", Menu: "メニュー", SignOut: "サインアウト", Back: "戻る", Language: "言語",
		NavDoors: "自分の接続先", NavApprovals: "承認", NavAccount: "自分の鍵", NavPeople: "ユーザー", NavTargets: "接続先の設定",
		NavHosts: "ホスト", NavLive: "接続許可中", NavAudit: "監査ログ", Yes: "はい", No: "いいえ", Never: "なし", None: "なし",
		Cancel: "キャンセル", Save: "保存", Add: "追加", Delete: "削除", Edit: "編集", Name: "名前", Reason: "理由",
		SignedInAs:  func(name string) string { return name + " としてサインイン中" },
		NeedsScript: "パスキーを使うには JavaScript が必要ですが、このブラウザーでは無効になっています。",

		SignInTitle: "サインイン", SignInLead: "本人確認のあと、接続先を開けます。",
		SignInPasskey: "パスキーでサインイン", SignInWith: "サインイン：", NoPasskeys: "このアドレスでは、お使いのブラウザーのパスキーを利用できません。",
		NoWay:     "ここではブラウザーからサインインできません。コマンドラインなら、SSH 鍵の署名で利用できます。",
		SignInCLI: "パスキーをまだお持ちでない場合は、管理者に招待を依頼するか、SSH 鍵でリンクを作成してください：sekisho gate passkey",
		Leaving:   "サインインのページへ移動しています。", LeavingLink: "続ける",
		InviteTitle: "ようこそ", InviteLead: "パスキーを作成してください。パソコン、スマートフォン、セキュリティキーのいずれかに保存されます。パスワードはありません。",
		InviteFirst: "あなたはこのゲートの最初の管理者です。", InviteName: "ここで使う名前",
		InviteNameHint: "英数字、ピリオド、ハイフンが使えます。一覧や監査ログに表示されます。",
		InviteLabel:    "このパスキーの呼び名", InviteLabelHint: "例：ノートパソコン、スマートフォン、青いキー", InviteButton: "パスキーを作成",
		InviteUsed: "このリンクは使用済みか、存在しません。新しいリンクを依頼してください。",
		InviteNone: "このページは、受け取ったリンク全体を使って開いてください。", PasskeyWhat: "端末の指示に従って、タッチするかロックを解除してください。",
		PasskeyCancelled: "操作が取り消されたか、時間切れになりました。もう一度お試しください。",
		PasskeyFailed:    "うまくいきませんでした。", PasskeyUnsupported: "このブラウザーではパスキーを利用できません。別のブラウザーか端末でお試しください。",
		Working: "処理しています…", Disconnected: "ゲートから応答がありません。表示が古い可能性があります。",
		InviteFor:   func(s string) string { return s + " さん宛て" },
		InviteUntil: func(s string) string { return s + " まで、1 回だけ有効です" },

		DoorsTitle: "自分の接続先", NoDoors: "利用できる接続先がまだありません。管理者にお問い合わせください。",
		Open: "開放中", OpenVerb: "開ける", Ask: "申請する", Close: "閉じる", Withdraw: "取り下げる", Extend: "延長する", Shut: "閉鎖中",
		WaitingState: "承認待ち", AskedState: "開けています", EndingState: "閉じています", EndedState: "終了", Remaining: "残り時間",
		YouComeFrom: "あなたの接続元", YourAddresses: "あなたのアドレス", AddressFor: "許可するアドレス",
		WhoElse: "ほかに入っている人", NobodyElse: "ほかに入っている人はいません。", HowLong: "時間", Usual: "標準の長さ",
		WhyNeeded: "理由（必須）", WhyPlaceholder: "どのような作業をしますか", NotNow: "今は開けられません", WhyNot: "開けられない理由",
		Always: "申請なしで常に許可されるアドレス：", BreakTitle: "緊急時：承認なしで開ける",
		BreakLead: "承認なしで、時間帯にかかわらずすぐに開けます。すべての管理者に通知され、監査ログに残ります。",
		BreakVerb: "緊急で開ける", BreakMark: "緊急", NotConnected: "このホストは現在ゲートに接続していません。接続が戻りしだい開きます。",

		Stuck:        "期限を過ぎても閉じられていません。再試行しており、管理者にも通知しています。",
		OnePage:      "この接続先だけのページ（ブックマーク用）",
		AfterConnect: "sekisho ssh は、接続後すぐに閉じます。", AtExit: "sekisho ssh は、作業の終了時に閉じます。",
		Whole64: "IPv6 では、お使いの /64 ネットワーク全体が許可されます。", ConfirmTitle: "この接続先を開けますか",
		AlsoV4: "IPv4", AlsoV6: "IPv6", NoFamily: "確認できません", Reasons: "判定の理由",
		Port:          func(port int) string { return fmt.Sprintf("ポート %d", port) },
		AtMost:        func(d string) string { return "最長 " + d },
		NeedsApproval: func(of string) string { return of + " の承認が必要です。" },
		UntilAt:       func(t string) string { return t + " まで" },
		ApprovedBy:    func(name string) string { return "承認者：" + name },

		Denied: func(by, why string) string {
			if why == "" {
				return by + " さんが申請を却下しました。"
			}
			return by + " さんが申請を却下しました: " + why
		},
		ApprovalsTitle: "承認", NoApprovals: "あなたの承認を待っている申請はありません。", Approve: "承認する", Deny: "却下する", AskedFor: "申請内容",
		AnswerReason: "申請者へのひとこと（任意）",
		AsksFor: func(person, target string) string {
			return person + " さんが " + target + " を申請しています"
		},

		AccountTitle: "自分の鍵", Keys: "SSH 鍵", NoKeys: "登録されている SSH 鍵はありません。", Passkeys: "パスキー", NoPasskeysYet: "パスキーはまだありません。",
		AddPasskey: "パスキーを追加", PasskeyName: "呼び名", Created: "作成", Used: "最終利用",
		KeysHint:    "SSH 鍵は管理者が登録します。",
		OtherDevice: "別の端末", OtherDeviceLead: "1 回だけ使えるリンクを作成し、その端末で開くと、そこにパスキーを作成できます。", MakeLink: "リンクを作成",
		SignOutAll: "すべての端末からサインアウト", SignOutAllLead: "すべてのブラウザーのセッションを終了します。開いている接続先はそのままです。",
		Groups: "グループ", Role: "役割", Fixed: "固定アドレス", Login: "ID プロバイダーでの名前", SessionUntil: "サインインの期限",
		RoleOf: func(r api.Role) string {
			switch r {
			case api.RoleAdmin:
				return "管理者"
			case api.RoleHost:
				return "ホスト"
			case api.RolePerson:
				return "一般"
			}
			return "なし"
		},

		PeopleTitle: "ユーザー", AddPerson: "ユーザーを追加", Person: "ユーザー", Seen: "最終利用", State: "状態", Declared: "設定ファイル",
		DeclaredLead: "設定ファイルに書かれているため、変更は設定ファイルで行います。", Enabled: "有効", Disabled: "無効",
		Invite: "招待リンクを作成", InviteAgain: "招待", Disable: "無効にする…", Enable: "有効に戻す", DisableTitle: "ユーザーを無効にする",
		DisableLead: "ただちに新しく開けられなくなり、すべての端末からサインアウトされ、開いている接続先はすべて閉じられます。",
		Cut:         "接続中のセッションも切断する", CutLead: "ホストではすぐに切断されます。セキュリティグループでは切断できないため、接続中のセッションは本人が終えるまで続きます。",
		GroupsHint: "カンマまたは空白で区切ります", FixedHint: "アドレスをカンマまたは空白で区切ります", LoginHint: "空欄の場合、ID プロバイダーではサインインできません",
		KeysLines: "SSH 公開鍵（1 行に 1 つ。~/.ssh/id_ed25519.pub の内容）", DeletePersonLead: "開いている接続先をすべて閉じ、登録を削除します。監査ログの名前は残ります。",
		LinkTitle: "招待リンク", LinkLead: "本人だけが読める方法で渡してください。表示されるのは今回だけで、使えるのも 1 回だけです。",
		TokenTitle: "ホストの登録トークン", TokenLead: "このゲートを sekisho.yaml の gate.url に設定したホスト上で、次を実行してください。表示されるのは今回だけで、使えるのも 1 回だけです。", EditedOnly: "画面での編集は無効です。登録内容は設定ファイルで管理されています。",
		DisabledBy:  func(by, at string) string { return at + " に " + by + " が無効にしました" },
		DeleteTitle: func(name string) string { return name + " を削除しますか" },

		TargetsTitle: "接続先の設定", Target: "接続先", Kind: "種類", Where: "場所", AddTarget: "接続先を追加", TargetYAML: "設定（YAML）",
		TargetHint: "設定ファイルで接続先の名前の下に書く内容です：aws または agent、host、port、allow など", DeleteTargetLead: "開いているものはすべて閉じられます。",
		HostsTitle: "ホスト", Host: "ホスト", AddHost: "ホストを追加", HostHint: "ホストが自分を登録するためのトークンを作成します。",
		Connected: "接続中", Unconnected: "未接続", Version: "バージョン", InForce: "有効な許可", Key: "鍵", NotEnrolled: "未登録",
		DeleteHostLead: "ゲートからの指示は届かなくなります。開いているものは期限どおりに終了します。", NoHosts: "ホストは登録されていません。", NoTargets: "接続先がありません。",
		KindGroup: "セキュリティグループ", KindHost: "ホスト", Findings: "設定の問題",

		LiveTitle: "接続許可中", NoLive: "現在、入っている人はいません。", Address: "アドレス", Until: "期限", Since: "開始", Rule: "ルール",
		AuditTitle: "監査ログ", NoEntries: "該当する記録はありません。", From: "開始日", To: "終了日", What: "操作", When: "日時", Who: "操作者",
		Filter: "絞り込み", Export: "書き出し（JSON Lines）", Verify: "ハッシュチェーンを検証", Older: "さらに古い記録", ChainWhole: "ハッシュチェーンに異常はありません。",
		Refused: "拒否", Result: "結果", Done: "完了", Approver: "承認者",
		ChainBroken: func(at int64, what string) string {
			return fmt.Sprintf("ハッシュチェーンが %d 番目の記録で壊れています：%s", at, what)
		},
		Entries: func(n int64) string { return fmt.Sprintf("%d 件", n) },

		ErrorTitle: "処理できませんでした", RequestID: "管理者への問い合わせ番号", Hint: "対処方法",
		ErrorOf: func(c api.Code) string {
			switch c {
			case api.BadRequest:
				return "入力内容に誤りがあります。"
			case api.NoIdentity:
				return "サインインしてください。"
			case api.BadSignature:
				return "本人確認の署名が正しくありません。"
			case api.Clock:
				return "端末の時計がずれています。"
			case api.Replayed:
				return "この署名はすでに使われています。"
			case api.Unknown:
				return "この鍵は登録されていません。"
			case api.Expired:
				return "有効期限が切れています。"
			case api.Disabled:
				return "あなたの利用は停止されています。管理者にお問い合わせください。"
			case api.Forbidden:
				return "この操作を行う権限がありません。"
			case api.NotAllowed:
				return "今はこの接続先を開けられません。"
			case api.CrossOrigin:
				return "別のサイトからの操作のため、受け付けませんでした。ゲートのページから操作してください。"
			case api.NotFound:
				return "見つかりません。"
			case api.BadMethod:
				return "この方法では操作できません。"
			case api.Declared:
				return "設定ファイルに書かれているため、ここでは変更できません。"
			case api.Conflict:
				return "ほかの変更と競合しています。表示を更新してからやり直してください。"
			case api.TooLarge:
				return "送信された内容が大きすぎます。"
			case api.TooMany:
				return "回数が多すぎます。しばらくしてからやり直してください。"
			case api.Unreachable:
				return "AWS または ID プロバイダーから正しい応答がありません。"
			case api.Busy:
				return "現在は記録を書き込めません。しばらくしてからやり直してください。"
			}
			return "ゲートで問題が発生しました。"
		},
		Why: func(why string) string {
			switch why {
			case "closed":
				return "閉じられました"
			case "expired":
				return "期限切れ"
			case "disabled":
				return "ユーザーが無効になりました"
			case "denied":
				return "却下されました"
			case "failed":
				return "開けられませんでした"
			case "withdrawn":
				return "取り下げられました"
			}
			return why
		},
		Duration: func(d time.Duration) string {
			return units(d, unit("%d 日"), unit("%d 時間"), unit("%d 分"), unit("%d 秒"), " ")
		},
	}
}
