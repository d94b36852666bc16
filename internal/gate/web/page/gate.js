// The gate's only script: times in the reader's zone, a countdown, fresh pages, both of the
// reader's addresses, passkeys. All but passkeys works without it.
"use strict";
(() => {
	const api = "/api/v1";
	const words = document.documentElement.dataset;

	// ---- times

	const localise = (root) => {
		for (const t of root.querySelectorAll("time[datetime]")) {
			const at = new Date(t.dateTime);
			if (isNaN(at) || t.dataset.done) continue;
			t.dataset.done = "1";
			t.title = t.textContent;
			t.textContent = at.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
		}
	};

	// What is left is told as a length, so that this machine's clock plays no part.
	const clock = () => performance.now();
	const start = (root) => {
		for (const e of root.querySelectorAll("[data-left]")) e.gateEnd = clock() + 1000 * Number(e.dataset.left);
	};
	const tick = () => {
		for (const e of document.querySelectorAll("[data-left]")) {
			if (e.gateEnd === undefined) continue;
			const left = Math.max(0, Math.ceil((e.gateEnd - clock()) / 1000));
			const two = (n) => String(n).padStart(2, "0");
			const text = Math.floor(left / 3600) + ":" + two(Math.floor(left / 60) % 60) + ":" + two(left % 60);
			if (e.textContent !== text) e.textContent = text;
			if (left === 0 && !e.gateOver) {
				e.gateOver = true;
				setTimeout(refresh, 1500);
			}
		}
	};

	// ---- fresh pages

	const busy = () => {
		const main = document.querySelector("main[data-fresh]");
		if (!main) return true;
		const at = document.activeElement;
		if (at && main.contains(at) && /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName)) return true;
		if (main.querySelector("details[open]")) return true;
		for (const e of main.querySelectorAll("input[type=text], textarea")) if (e.value !== e.defaultValue) return true;
		return false;
	};
	let asking = false;
	let last = "";
	async function refresh() {
		if (asking || document.hidden || busy()) return;
		asking = true;
		try {
			const r = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
			if (r.status >= 500 || r.status === 429) { quiet(false); return; }
			if (!r.ok) { location.reload(); return; } // signed out, perhaps
			const text = await r.text();
			const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("main");
			quiet(true);
			if (!fresh || busy()) return;
			const main = document.querySelector("main");
			if (fresh.innerHTML === last) return;
			last = fresh.innerHTML;
			const id = document.activeElement && document.activeElement.id;
			main.replaceChildren(...fresh.childNodes);
			dress(main);
			if (id) document.getElementById(id)?.focus();
		} catch {
			quiet(false);
		} finally {
			asking = false;
		}
	}
	const quiet = (well) => {
		const e = document.getElementById("disconnected");
		if (e) e.hidden = well;
	};

	// ---- both of the reader's addresses

	const seen = {};
	const ask = async () => {
		const box = document.getElementById("addresses");
		if (!box) return;
		for (const family of ["4", "6"]) {
			const from = box.dataset["probe" + family];
			if (!from) continue;
			try {
				const r = await fetch(from + api + "/address", { credentials: "omit", signal: AbortSignal.timeout(5000) });
				const said = await r.json();
				if (r.ok && String(said.family) === family) seen[family] = said.address;
			} catch { /* there is no way to it over this family */ }
			seen["asked" + family] = true;
		}
		show(document);
	};
	const show = (root) => {
		const box = root.querySelector("#addresses");
		if (!box) return;
		for (const family of ["4", "6"]) {
			const e = box.querySelector("[data-family='" + family + "']");
			if (!e || !seen["asked" + family]) continue;
			e.textContent = seen[family] || words.nofamily;
			e.parentElement.hidden = false;
		}
		const own = box.dataset.own;
		for (const choice of root.querySelectorAll("select[name=address]")) {
			for (const family of ["4", "6"]) {
				if (!seen[family] || seen[family] === own || [...choice.options].some((o) => o.value === seen[family])) continue;
				choice.add(new Option("IPv" + family + "  " + seen[family], seen[family]));
			}
			if (choice.options.length > 1) for (const e of [choice, ...choice.labels]) e.hidden = false;
		}
	};

	// ---- passkeys

	const post = async (path, body) => {
		const r = await fetch(api + path, {
			method: "POST",
			headers: body === undefined ? {} : { "Content-Type": "application/json" },
			body: body === undefined ? undefined : JSON.stringify(body),
		});
		const answer = r.status === 204 ? {} : await r.json();
		if (!r.ok) throw Object.assign(new Error(answer.message), { answer });
		return answer;
	};
	const say = (box, text, bad) => {
		const e = box.querySelector("[role=status]");
		e.className = bad ? "error" : "notice";
		e.textContent = text;
		e.hidden = !text;
	};
	const able = () => window.PublicKeyCredential && PublicKeyCredential.parseCreationOptionsFromJSON && PublicKeyCredential.parseRequestOptionsFromJSON;
	const explain = (err) => {
		if (err.answer) return (words["code_" + err.answer.code] ? words["code_" + err.answer.code] + " " : "") + [err.answer.message, err.answer.hint].filter(Boolean).join(" — ");
		if (err.name === "NotAllowedError" || err.name === "AbortError") return words.cancelled;
		return words.failed + " (" + err.name + ")";
	};
	const perform = async (box, what) => {
		const button = box.querySelector("button[type=submit]");
		button.disabled = true;
		say(box, words.working);
		try {
			if (!able()) { say(box, words.unsupported, true); return; }
			await what();
		} catch (err) {
			say(box, explain(err), true);
		} finally {
			button.disabled = false;
		}
	};
	const make = async (box, ceremony) => {
		say(box, words.touch);
		const made = await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(ceremony.options) });
		say(box, words.working);
		return made.toJSON();
	};

	const signIn = (box) => box.addEventListener("submit", (ev) => {
		ev.preventDefault();
		perform(box, async () => {
			const ceremony = await post("/signin/begin");
			say(box, words.touch);
			const used = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(ceremony.options) });
			await post("/signin/finish", { key: ceremony.key, response: used.toJSON() });
			location.assign(box.dataset.next);
		});
	});

	const invited = async (box) => {
		let token = box.dataset.token || location.hash.slice(1);
		// Out of the address, so that it stays in no history.
		if (location.hash) history.replaceState(null, "", location.pathname);
		if (!token) { say(box, words.nolink, true); return; }
		let who;
		try {
			who = await post("/invitations/show", { token });
		} catch (err) {
			say(box, err.answer && (err.answer.code === "not_found" || err.answer.code === "expired") ? words.usedlink : explain(err), true);
			return;
		}
		const name = box.querySelector("[data-name]");
		if (who.for) {
			const e = box.querySelector("[data-for]");
			e.textContent = e.dataset.for.replace("{}", who.for);
			e.hidden = false;
		} else {
			box.querySelector("[data-first]").hidden = false;
			name.hidden = false;
			name.querySelector("input").required = true;
		}
		box.querySelector("[data-form]").hidden = false;
		box.addEventListener("submit", (ev) => {
			ev.preventDefault();
			perform(box, async () => {
				const ceremony = await post("/invitations/begin", { token, name: name.querySelector("input").value });
				const response = await make(box, ceremony);
				await post("/invitations/finish", { token, key: ceremony.key, label: box.querySelector("input[name=label]").value, response });
				location.assign("/");
			});
		});
	};

	const another = (box) => box.addEventListener("submit", (ev) => {
		ev.preventDefault();
		perform(box, async () => {
			const ceremony = await post("/passkeys/begin");
			const response = await make(box, ceremony);
			await post("/passkeys/finish", { key: ceremony.key, label: box.querySelector("input[name=label]").value, response });
			location.reload();
		});
	});

	// ---- all of it

	// A double tap asks once.
	document.addEventListener("submit", (ev) => {
		if (ev.defaultPrevented) return;
		for (const b of ev.target.querySelectorAll("button")) setTimeout(() => { b.disabled = true; }, 0);
	});
	window.addEventListener("pageshow", (ev) => { if (ev.persisted) location.reload(); });

	const dress = (root) => {
		localise(root);
		start(root);
		show(root);
		tick();
	};
	for (const e of document.querySelectorAll("[data-script]")) e.hidden = false;
	dress(document);
	setInterval(tick, 250);
	setInterval(refresh, 10000);
	document.addEventListener("visibilitychange", refresh);
	ask();
	document.querySelectorAll("form[data-signin]").forEach(signIn);
	document.querySelectorAll("form[data-invited]").forEach(invited);
	document.querySelectorAll("form[data-passkey]").forEach(another);
})();
