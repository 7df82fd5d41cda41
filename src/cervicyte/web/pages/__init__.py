"""The pages: which address shows which template, and what each template expects of the view that renders it.

`ROUTES` names every address that a template links to or posts to; a blueprint's function has the endpoint's name.
`cervicyte.web.formatting.prepare` is called on the Jinja environment once. Every form that posts carries ``csrf``,
works
without JavaScript, and is answered with 303 to a page (or, when something is wrong, with the same template, status
422, ``errors`` and ``values``). Attributes below may be those of objects or the keys of dictionaries. A time is an
aware datetime, a probability a float 0 to 1 or None, an address of a page or picture a str made by ``url_for``.

On every page (a context processor):
    user      None, or .name .email .role ("reader" | "reviewer" | "administrator")
    csrf      the session's token, or the token of the visitor's cookie before sign-in
    theme     "light", "dark" or "" (as the system says), from the cookie ``theme``; app.js sets the same cookie
    messages  list of (kind, text); kind is "done", "told", "warned" or "wrong"
    here      name of the section in the navigation: "cases", "second", "disagreements", "history", "dashboard",
              "admin", "account" or ""
    may       set of what the user may do on this page: "new", "upload", "edit", "assign", "decide", "report",
              "sign", "export", "delete", "see_all"
    errors    dict: field name to what is wrong with it; "" for what concerns no single field; {} when all is well
    values    dict: field name to what was sent, so that nothing is typed twice; {} on a first visit

Shapes that several pages share:
    Case   .number .accession .notes .owner (name) .created_at .state ("open" | "signed") .second_reader (name or
           None) .blinded .images .done .waiting .failed .decided (int: pictures; predicted; not yet; unreadable;
           with a verdict of this user) .abnormal .uncertain .unsatisfactory (int: answers of the model; None where
           they are hidden) .blind (bool: others' verdicts are hidden, as `cervicyte.web.cases.blinding` says)
    Cell   .id .name .position (from 1) .state ("waiting" | "done" | "failed") .reason (of failure, or "") .width
           .height .label .bethesda (or None) .p_abnormal .flagged (at or above the operating point; None where
           that is not defined) .uncertain .quality ("good", "not checked" or why it is refused) .verdict (this
           user's: a category's code, a class, "unsatisfactory", or None) .agrees (bool or None)
    Page   .number .pages .total .previous .next (address or None), each address with its filters in it
    Choice (value, words), for the options of a select

sign_in.html       next (where to go afterwards, checked to be a path of this site), registration ("closed" |
                   "invitation" | "open"), mail (bool: there is mail, so a password can be reset). Posts email,
                   password, next.
sign_in_code.html  next. Posts code, next.
set_up.html        token. Posts name, email, password, again: the first administrator.
register.html      step ("ask" | "finish" | "closed"), email ("" or what the invitation or the first step fixed), role
                   (of an invitation, or ""), by_code (bool: finish asks for the code that was mailed), action
                   (address to post to). "ask" posts email; "finish" posts code, name, password, again.
reset.html         step ("ask" | "finish" | "link"), email, mail (bool), action (address to post to). Posts email; or
                   email, code, password, again; or, by an administrator's link, password, again.
cases.html         cases (list of Case), page, filters (q, state, order), orders and states (lists of Choice). Reads
                   q, state, order, page; cases.new posts accession, notes.
case.html          case, cells (list of Cell, the most suspicious first; to a blinded reader by position), hide_model
                   (bool: a blinded reader sees no answer), page, view ("grid" | "table"), show (which filter), shown
                   (list of (filter, words, count, address)), view_links (dict: view to address), max_upload_mb (int),
                   refused (list of (name, reason) of the last upload), next_cell (address or None: the first without
                   a verdict), no_model (why none answers while pictures wait, or ""), second_readers (list of Choice;
                   case.second_reader_id is the one chosen, or None).
                   cases.upload takes files in ``images``; to Accept: application/json it answers {"accepted": int,
                   "passed_over": int, "refused": [{"name", "reason"}]}, 413, or 429 or 503 with Retry-After; the
                   header Idempotency-Key is the same when the same file is sent again. While pictures are waiting the
                   page is fetched every 2 s and the elements with data-live in it are put in place of the old ones.
reading.html       case, cell (its position in the order of reading), total (int), decided of readable (int: cells whose
                   picture can be read), previous_url, next_url (or None), open_url (the next without a verdict, or
                   None), strip (list of (Cell, address, is_this)), image_url, map_url (None, or a PNG of the map alone,
                   RGBA, as opaque as it is strong), map_target (what the map speaks for), next_image (address to fetch
                   ahead, or None), prediction (None while waiting or failed; else .model_name .model_sha256 .label
                   .bethesda .p_abnormal .flagged .operating_point (or None) .sensitivity (that it was set for)
                   .normal_below .abnormal_from (or None for never) .uncertain .quality .probabilities (list of (class,
                   p)) .votes (list of .member .label .p_abnormal) .disagreement (or None)), morphology (list of (title,
                   list of .name .value .unit .help); the first group is open, the others folded), classes (list of
                   (class of the model, its key or "")), review (None, or this user's newest: .verdict .stored .agrees
                   .comment .created_at), can_undo (bool), closed (bool: the blinded reading of this cell was complete,
                   so no verdict is taken any more), for_others (bool: others read the case blinded, so none is taken
                   yet), others (list of .reader .reading .verdict .comment .created_at: what this reader may see),
                   reading ("first" | "second"), hide_model (bool: a blinded second reading shows neither answer nor
                   map).
                   reading.decide posts verdict ("agree", a code of `cervicyte.web.reading.categories`, a class of the
                   model, or
                   "unsatisfactory"; the first and third not where the model is hidden) and comment; answered with 303
                   to the next cell without a verdict, or to the case.
                   reading.undo posts nothing and takes back this reader's newest verdict of the case; 303 to its cell,
                   or to the case with a message where there is none.
second.html        waiting, finished (lists of Case, decided counting this reader's), blinded is said of each.
disagreements.html rows (list of .case (number) .cell (Cell) .address .first .second (verdicts) .first_reader
                   .second_reader .model (label) .bethesda .settled (verdict or None) .settled_by), page, kappa (None,
                   or .value .low .high .n .agreement .weighted), show ("open" | "all"), show_links (dict).
                   second.settle posts verdict, comment.
report.html        case (Case as it is now: what can be done), report (.case (what stands in the sheet, of a signed
                   version as it was signed: .number .accession .notes .owner .second_reader (or None) .blinded
                   .created_at .images .failed .waiting) .version .versions (list of (version, address, .signed_at))
                   .made_at .model_name .model_sha256 .operating_point .sensitivity .signed_by .signed_at (or None)
                   .reason (of an amendment, or "") .sha256 .state .summary (list of (category code or label, count))
                   .conclusion (text) .cells (list of Cell with .reader .comment) .not_read .disputed (int) .problem
                   (text or "") .blinded (what a draft says of a blinded reading that is not complete, or "")), pdf_url,
                   changed (bool: verdicts changed after the signature). reports.sign posts seen (.state), conclusion,
                   reason, password; reports.reopen posts reopen-reason.
history.html       rows (list of .at .kind ("verdict" | "report" | "upload") .case .cell (name) .address .reader
                   .verdict .model .agrees .comment), page, filters (q, reader, verdict, agreement, since, until),
                   readers and verdicts (lists of Choice), labels (list of Choice: how exported cells are named).
dashboard.html     days (int), periods (list of (days, address)), today (.cases .cells .waiting .seconds (median from
                   upload to answer, or None)), dates (list of date), cases_per_day, cells_per_day (lists of int),
                   agreement_per_day (list of float or None), agreement (None, or .value .low .high .n), drift (None, or
                   .psi .ks .p .state ("stable" | "watch" | "drifted") .n .reference_n), score_edges (n + 1 floats),
                   score_reference, score_recent (n shares each, none without drift), verdicts (list of (code or label,
                   count)).
admin_users.html   users (list of .id .name .email .role .active .second_factor .created_at .last_sign_in_at .is_me
                   .is_last_administrator), invitations (list of .id .email .role .expires_at .by), q, page.
                   admin.change posts role and active ("1" | "0"); admin.reset posts nothing and is answered by
                   admin_invite.html with a link for a new password.
admin_invite.html  roles (list of Choice), link (None, or the address to hand over where no mail is set up), email,
                   mail (bool). Posts email, role.
admin_audit.html   rows (list of .id .at .actor .action .subject .detail (text) .hash), page, filters (q, actor,
                   action, since, until), actions and actors (lists of Choice), check (None, or .ok .rows .at
                   .problem). admin.verify posts nothing.
admin_upkeep.html  retention_days (0 keeps all), due (int: cases that will go), backups (list of .name .size .at
                   .verified), storage (.database .images .free, bytes), queue (.waiting .failed .working .oldest_at),
                   model (.name .sha256 .classes), versions (list of (name, text)). Posts: admin.retention days and
                   confirm; admin.backup nothing; admin.retry nothing.
account.html       second_factor (bool), secret (None, or the secret as text while it is being set up), otpauth (its
                   link), tokens (list of .id .name .created_at .used_at .expires_at), new_token (None, or shown this
                   once), sessions (list of .created_at .seen_at .is_this). Posts: account.rename own-name;
                   account.password current, password, again; account.totp_start nothing; account.totp_on code;
                   account.totp_off off-password; account.new_token name, days, token-password; account.revoke_token and
                   account.end_sessions nothing.
error.html         status (int), what, todo (texts or ""), retry_after (seconds or None), request_id. It needs no
                   database: user may be None.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """An address: the endpoint's name, its rule, its methods, and the template that answers (or none)."""

    endpoint: str
    rule: str
    methods: str = "GET"
    template: str = ""


ROUTES: tuple[Route, ...] = (
    Route("static", "/static/<path:filename>"),
    Route("sign_in.sign_in", "/sign-in", "GET POST", "sign_in.html"),
    Route("sign_in.code", "/sign-in/code", "GET POST", "sign_in_code.html"),
    Route("sign_in.sign_out", "/sign-out", "POST"),
    Route("sign_in.set_up", "/set-up/<token>", "GET POST", "set_up.html"),
    Route("sign_in.register", "/register", "GET POST", "register.html"),
    Route("sign_in.invitation", "/invitation/<token>", "GET POST", "register.html"),
    Route("sign_in.reset", "/reset", "GET POST", "reset.html"),
    Route("sign_in.new_password", "/reset/<token>", "GET POST", "reset.html"),
    Route("cases.index", "/cases", "GET", "cases.html"),
    Route("cases.new", "/cases", "POST"),
    Route("cases.show", "/cases/<number>", "GET", "case.html"),
    Route("cases.upload", "/cases/<number>/images", "POST"),
    Route("cases.edit", "/cases/<number>/edit", "POST"),
    Route("cases.assign", "/cases/<number>/second-reader", "POST"),
    Route("cases.delete", "/cases/<number>/delete", "POST"),
    Route("cases.retry", "/cases/<number>/retry", "POST"),
    Route("cases.table", "/cases/<number>/cells.csv"),
    Route("cases.image", "/images/<image_id>"),
    Route("cases.thumbnail", "/images/<image_id>/thumbnail"),
    Route("reading.show", "/cases/<number>/cells/<image_id>", "GET", "reading.html"),
    Route("reading.decide", "/cases/<number>/cells/<image_id>/decision", "POST"),
    Route("reading.undo", "/cases/<number>/undo", "POST"),
    Route("reading.map", "/images/<image_id>/map"),
    Route("second.index", "/second", "GET", "second.html"),
    Route("second.disagreements", "/disagreements", "GET", "disagreements.html"),
    Route("second.settle", "/disagreements/<image_id>", "POST"),
    Route("reports.show", "/cases/<number>/report", "GET", "report.html"),
    Route("reports.pdf", "/cases/<number>/report.pdf"),
    Route("reports.sign", "/cases/<number>/report/signature", "POST"),
    Route("reports.reopen", "/cases/<number>/report/reopen", "POST"),
    Route("history.index", "/history", "GET", "history.html"),
    Route("exports.cells", "/export/cells.zip"),
    Route("exports.table", "/export/cells.csv"),
    Route("dashboard.index", "/dashboard", "GET", "dashboard.html"),
    Route("admin.users", "/admin/users", "GET", "admin_users.html"),
    Route("admin.change", "/admin/users/<user_id>", "POST"),
    Route("admin.reset", "/admin/users/<user_id>/reset", "POST"),
    Route("admin.invite", "/admin/invite", "GET POST", "admin_invite.html"),
    Route("admin.revoke", "/admin/invitations/<invitation_id>/revoke", "POST"),
    Route("admin.audit", "/admin/audit", "GET", "admin_audit.html"),
    Route("admin.verify", "/admin/audit/check", "POST"),
    Route("admin.upkeep", "/admin/upkeep", "GET", "admin_upkeep.html"),
    Route("admin.retention", "/admin/upkeep/retention", "POST"),
    Route("admin.backup", "/admin/upkeep/backup", "POST"),
    Route("admin.retry", "/admin/upkeep/retry", "POST"),
    Route("account.show", "/account", "GET", "account.html"),
    Route("account.theme", "/theme", "POST"),
    Route("account.rename", "/account/name", "POST"),
    Route("account.password", "/account/password", "POST"),
    Route("account.totp_start", "/account/second-factor", "POST"),
    Route("account.totp_on", "/account/second-factor/on", "POST"),
    Route("account.totp_off", "/account/second-factor/off", "POST"),
    Route("account.new_token", "/account/tokens", "POST"),
    Route("account.revoke_token", "/account/tokens/<token_id>/revoke", "POST"),
    Route("account.end_sessions", "/account/sessions/end", "POST"),
)
