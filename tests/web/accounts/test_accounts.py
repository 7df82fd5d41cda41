"""Ways into the web application: set-up, invitations, registration, reset, sessions, second step, tokens; rights."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'web' is not installed")

import pyotp
from sqlalchemy import func, select

from cervicyte.errors import CervicyteError, UsageError
from cervicyte.web.accounts import api_tokens, authenticator, one_time_codes, registration as entry, sessions, users
from cervicyte.web.accounts.users import ACTIONS, may
from cervicyte.web.base import credentials, rate_limits
from cervicyte.web.base.schema import Base, Code, User, UserSession
from cervicyte.web.errors import DeniedError, MailError, TooManyRequestsError
from support.web.databases import on_both
from support.web.site import HERE, OTHER, PASSWORD, cheap, make_site, make_user

FIRST = "first@lab.example"


@pytest.fixture
def site(tmp_path, database_url):
    site = make_site(tmp_path / "data", url=database_url)
    yield site
    assert site.audit_log.verify(site.database).ok
    site.database.close()


def _token(link: str) -> str:
    return link.rsplit("/", 1)[1]


def _at_once(act: Callable[[], object], n: int = 6) -> list[object]:
    """Do the same in several threads at the same moment; what each returned, or the error it ended in."""
    barrier = threading.Barrier(n)

    def run(_: int) -> object:
        barrier.wait()
        try:
            return act()
        except CervicyteError as error:
            return error

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))


def _everything(site) -> str:
    """All that the database holds, as text."""
    with site.database.read() as session:
        return repr([session.execute(select(table)).all() for table in Base.metadata.sorted_tables])


def _actions(site) -> list[str]:
    from cervicyte.web.base.schema import AuditRow

    with site.database.read() as session:
        return list(session.scalars(select(AuditRow.action).order_by(AuditRow.id)))


# --- set-up -----------------------------------------------------------------------------------------------------------


def test_the_first_start_gives_a_link_that_makes_one_administrator(site):
    link = entry.setup_link(site)
    assert link.startswith("https://lab.example/set-up/")
    assert _token(link) not in _everything(site)
    user = entry.set_up(site, _token(link), " First@Lab.Example ", "First R.", PASSWORD)
    assert (user.email, user.role, user.name) == (FIRST, "administrator", "First R.")
    assert entry.setup_link(site) is None
    with pytest.raises(DeniedError):
        entry.set_up(site, _token(link), "eve@lab.example", "", PASSWORD)


def test_of_many_who_open_the_set_up_link_at_once_one_becomes_administrator(site):
    links = [entry.setup_link(site), entry.setup_link(site)]
    names = iter("abcdefgh")
    found = _at_once(lambda: entry.set_up(site, _token(links[0]), f"{next(names)}@x.example", "", PASSWORD))
    assert sorted(type(f).__name__ for f in found) == ["DeniedError"] * 5 + ["User"]
    with pytest.raises(DeniedError):
        entry.set_up(site, _token(links[1]), "z@x.example", "", PASSWORD)


def test_the_set_up_link_ends_after_a_day_and_a_weak_password_leaves_it_good(site):
    token = _token(entry.setup_link(site))
    with pytest.raises(UsageError, match="too short"):
        entry.set_up(site, token, FIRST, "", "short")
    entry.check_link(site, "setup", token)
    site.clock.forward(hours=25)
    with pytest.raises(DeniedError):
        entry.check_link(site, "setup", token)
    with pytest.raises(DeniedError):
        entry.set_up(site, token, FIRST, "", PASSWORD)


# --- registration -----------------------------------------------------------------------------------------------------


def test_registration_is_closed_unless_it_is_opened(site):
    for act in (
        lambda: entry.start_registration(site, FIRST, HERE),
        lambda: entry.finish_registration(site, FIRST, "x", "", PASSWORD, HERE),
        lambda: entry.invite(site, "admin", FIRST, "reader"),
        lambda: entry.check_link(site, "invitation", "x"),
        lambda: entry.accept_invitation(site, "x", "", PASSWORD),
    ):
        with pytest.raises(DeniedError, match="closed"):
            act()
    assert site.mailer.sent == []


def test_an_account_that_an_administrator_makes_has_no_password_until_its_owner_chooses_one(site):
    handed = entry.add_user(site, "admin", "First@Lab.example", "First", "reviewer")
    assert handed.mailed
    assert handed.link in site.mailer.sent[-1].text
    with pytest.raises(DeniedError):
        sessions.sign_in(site, FIRST, "", HERE)
    user = entry.reset_by_link(site, _token(handed.link), PASSWORD)
    assert (user.email, user.role) == (FIRST, "reviewer")
    assert sessions.sign_in(site, FIRST, PASSWORD, HERE).user.id == user.id
    with pytest.raises(DeniedError):
        entry.reset_by_link(site, _token(handed.link), OTHER)
    with pytest.raises(UsageError, match="already"):
        entry.add_user(site, "admin", FIRST, "", "reader")


def test_an_invitation_is_for_its_address_and_role_once_and_for_a_week(site):
    site = replace(site, registration="invitation")
    with pytest.raises(DeniedError):
        entry.start_registration(site, FIRST, HERE)
    first = entry.invite(site, "admin", FIRST, "reader")
    second = entry.invite(site, "admin", FIRST, "reviewer")
    with pytest.raises(DeniedError):
        entry.check_link(site, "invitation", _token(first.link))
    assert entry.check_link(site, "invitation", _token(second.link)).email == FIRST
    found = _at_once(lambda: entry.accept_invitation(site, _token(second.link), "First", PASSWORD))
    assert sorted(type(f).__name__ for f in found) == ["DeniedError"] * 5 + ["User"]
    (user,) = [f for f in found if isinstance(f, User)]
    assert (user.email, user.role) == (FIRST, "reviewer")
    third = entry.invite(site, "admin", "bob@lab.example", "reader")
    with site.database.read() as session:
        (waiting,) = entry.invitations(site, session)
    assert (waiting.email, waiting.issued_by) == ("bob@lab.example", "admin")
    entry.withdraw(site, "admin", waiting.id)
    with pytest.raises(DeniedError):
        entry.accept_invitation(site, _token(third.link), "", PASSWORD)
    fourth = entry.invite(site, "admin", "bob@lab.example", "reader")
    site.clock.forward(days=8)
    with pytest.raises(DeniedError):
        entry.accept_invitation(site, _token(fourth.link), "", PASSWORD)
    assert _token(fourth.link) not in _everything(site)


def test_without_mail_an_administrator_sees_the_link_and_why(tmp_path):
    site = make_site(tmp_path, mail=False)
    handed = entry.add_user(site, "admin", FIRST, "", "reader")
    assert (handed.mailed, handed.problem) == (False, "no mail is set up")
    for act in (lambda: entry.ask_reset(site, FIRST, HERE), lambda: entry.ask_reset(site, "no@x.example", HERE)):
        with pytest.raises(MailError, match="no mail is set up"):
            act()
    site.database.close()


def test_open_registration_takes_the_mailed_code_once(site):
    site = replace(site, registration="open")
    entry.start_registration(site, "First@LAB.example", HERE)
    code = site.mailer.code()
    assert site.mailer.sent[-1].to == FIRST
    assert code not in _everything(site)
    assert code.replace("-", "") not in _everything(site)
    found = _at_once(lambda: entry.finish_registration(site, FIRST, code.lower(), "First", PASSWORD, HERE), 5)
    assert sorted(type(f).__name__ for f in found) == ["DeniedError"] * 4 + ["User"]
    (user,) = [f for f in found if isinstance(f, User)]
    assert (user.role, user.name) == ("reader", "First")


def test_registering_an_address_that_has_an_account_looks_the_same_from_outside(site):
    site = replace(site, registration="open")
    make_user(site)
    for email in (FIRST, "new@lab.example"):
        assert entry.start_registration(site, email, HERE) is None
    told, coded = site.mailer.sent
    assert "has an account already" in told.text
    assert "code is" in coded.text
    answers = set()
    for email in (FIRST, "new@lab.example", "nobody@lab.example"):
        with pytest.raises(DeniedError) as denied:
            entry.finish_registration(site, email, "WRONG-WRONG", "", PASSWORD, HERE)
        answers.add(str(denied.value))
    assert len(answers) == 1


def test_a_code_takes_five_attempts_at_the_same_moment_too_and_then_the_right_one_is_wrong(site):
    site = replace(site, registration="open")
    entry.start_registration(site, FIRST, HERE)
    code = site.mailer.code()
    _at_once(lambda: entry.finish_registration(site, FIRST, "AAAAA-AAAAA", "", PASSWORD, HERE), 8)
    with site.database.read() as session:
        assert session.scalar(select(Code.attempts)) == one_time_codes.MOST_ATTEMPTS
    with pytest.raises(DeniedError):
        entry.finish_registration(site, FIRST, code, "", PASSWORD, HERE)
    entry.start_registration(site, FIRST, HERE)
    site.clock.forward(minutes=31)
    with pytest.raises(DeniedError):
        entry.finish_registration(site, FIRST, site.mailer.code(), "", PASSWORD, HERE)


def test_a_weak_password_costs_no_attempt(site):
    site = replace(site, registration="open")
    entry.start_registration(site, FIRST, HERE)
    for _ in range(7):
        with pytest.raises(UsageError):
            entry.finish_registration(site, FIRST, site.mailer.code(), "", "short", HERE)
    assert entry.finish_registration(site, FIRST, site.mailer.code(), "", PASSWORD, HERE).email == FIRST


def test_nobody_can_have_others_flooded_with_mail(site):
    site = replace(site, registration="open")
    for _ in range(5):
        entry.start_registration(site, FIRST, HERE)
    with pytest.raises(TooManyRequestsError):
        entry.ask_reset(site, FIRST, "198.51.100.7")
    assert len(site.mailer.sent) == 5


# --- forgotten passwords ----------------------------------------------------------------------------------------------


def test_a_forgotten_password_is_replaced_by_a_mailed_code_and_everything_open_ends(site):
    user = make_user(site)
    signed = sessions.sign_in(site, FIRST, PASSWORD, HERE)
    key = api_tokens.make(site, user.id, "script")
    entry.ask_reset(site, " FIRST@lab.example", HERE)
    code = site.mailer.code()
    assert code not in _everything(site)
    found = _at_once(lambda: entry.reset_by_code(site, FIRST, code, OTHER, HERE), 5)
    assert sorted(type(f).__name__ for f in found) == ["DeniedError"] * 4 + ["User"]
    assert sessions.load(site, signed.token) is None
    assert api_tokens.load(site, key.text) is None
    with pytest.raises(DeniedError):
        sessions.sign_in(site, FIRST, PASSWORD, HERE)
    assert sessions.sign_in(site, FIRST, OTHER, HERE).user.id == user.id
    assert "was changed" in site.mailer.sent[-1].text


def test_asking_for_a_new_password_tells_nobody_who_has_an_account(site):
    make_user(site)
    gone = make_user(site, "gone@lab.example")
    users.change(site, "admin", gone.id, active=False)
    answers, rows = set(), []
    for email in (FIRST, "nobody@lab.example", "gone@lab.example"):
        before = len(_actions(site))
        answers.add(repr(entry.ask_reset(site, email, HERE)))
        rows.append(len(_actions(site)) - before)
        with pytest.raises(DeniedError) as denied:
            entry.reset_by_code(site, email, "AAAAA-AAAAA", OTHER, HERE)
        answers.add(str(denied.value))
    assert len(answers) == 2  # None, and one and the same refusal
    assert rows == [1, 1, 1]
    assert [m.to for m in site.mailer.sent] == [FIRST]
    with site.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Code).where(Code.purpose == "reset")) == 3


def test_an_administrator_lets_in_who_lost_both_password_and_authenticator(site):
    user = make_user(site)
    _enrol(site, user)
    signed = _sign_in_with_code(site, user)
    handed = entry.reset_for(site, "admin", FIRST)
    assert sessions.load(site, signed.token) is None
    entry.reset_by_link(site, _token(handed.link), OTHER)
    assert isinstance(sessions.sign_in(site, FIRST, OTHER, HERE), sessions.SignedIn)


def test_a_link_of_one_purpose_opens_no_other_door(site):
    site = replace(site, registration="invitation")
    token = _token(entry.invite(site, "admin", FIRST, "administrator").link)
    for purpose in ("setup", "reset", "sign-in"):
        with pytest.raises(DeniedError):
            entry.check_link(site, purpose, token)


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_sign_in_makes_a_new_session_and_ends_the_one_that_came_with_it(site):
    make_user(site)
    planted = sessions.sign_in(site, FIRST, PASSWORD, HERE)
    signed = sessions.sign_in(site, FIRST, PASSWORD, HERE, previous=planted.token)
    assert signed.token != planted.token
    assert signed.csrf != planted.csrf
    assert sessions.load(site, planted.token) is None
    loaded = sessions.load(site, signed.token)
    assert (loaded.user.email, loaded.csrf) == (FIRST, signed.csrf)
    assert signed.token not in _everything(site)
    for odd in ("", "x", "\ud800", signed.token + "x"):
        assert sessions.load(site, odd) is None


def test_a_session_ends_with_sign_out_with_time_and_with_its_user(site):
    user = make_user(site)
    signed = [sessions.sign_in(site, FIRST, PASSWORD, HERE) for _ in range(3)]
    sessions.sign_out(site, signed[0].token)
    sessions.sign_out(site, "unknown")
    assert sessions.load(site, signed[0].token) is None
    sessions.end_others(site, user.id, signed[2].token)
    assert sessions.load(site, signed[1].token) is None
    assert sessions.load(site, signed[2].token)
    site.clock.forward(hours=site.session_hours, seconds=1)
    assert sessions.load(site, signed[2].token) is None
    last = sessions.sign_in(site, FIRST, PASSWORD, HERE)
    make_user(site, "root@lab.example", "administrator")
    users.change(site, "root", user.id, active=False)
    assert sessions.load(site, last.token) is None
    with site.database.read() as session:
        assert session.scalar(select(func.count()).select_from(UserSession)) == 0


@on_both
def test_what_ended_is_removed_and_what_is_open_stays(site):
    make_user(site)
    sessions.sign_in(site, FIRST, PASSWORD, HERE)
    entry.ask_reset(site, FIRST, HERE)
    site.clock.forward(days=31)
    signed = sessions.sign_in(site, FIRST, PASSWORD, HERE)
    make_user(site, "bob@lab.example")
    sessions.sign_in(site, "bob@lab.example", PASSWORD, HERE)
    site.clock.forward(hours=site.session_hours - 1)
    assert sessions.prune(site) == 1  # the code; the first session went with the second sign-in
    assert sessions.load(site, signed.token)
    site.clock.forward(hours=2)
    assert (sessions.prune(site), sessions.prune(site)) == (2, 0)


def test_a_new_password_ends_every_session_and_opens_one(site):
    user = make_user(site)
    signed = [sessions.sign_in(site, FIRST, PASSWORD, HERE) for _ in range(2)]
    for wrong, new, error in (
        (OTHER, OTHER, DeniedError),
        (PASSWORD, PASSWORD, UsageError),
        (PASSWORD, "short", UsageError),
    ):
        with pytest.raises(error):
            sessions.change_password(site, user.id, wrong, new, HERE)
    fresh = sessions.change_password(site, user.id, PASSWORD, OTHER, HERE)
    assert [sessions.load(site, s.token) for s in signed] == [None, None]
    assert sessions.load(site, fresh.token).user.id == user.id
    assert site.mailer.sent[-1].to == FIRST
    assert "password.changed" in _actions(site)


def test_a_wrong_password_no_user_and_a_disabled_one_are_answered_alike(site):
    make_user(site)
    gone = make_user(site, "gone@lab.example")
    users.change(site, "admin", gone.id, active=False)
    answers = set()
    for email, password in (
        (FIRST, OTHER), ("nobody@lab.example", PASSWORD), ("gone@lab.example", PASSWORD), ("no address", PASSWORD),
        ("a\x00b@x\r\n", PASSWORD), ("\ud800", PASSWORD), (FIRST, ""), (FIRST, "x" * 5000),
    ):  # fmt: skip
        with pytest.raises(DeniedError) as denied:
            sessions.sign_in(site, email, password, HERE)
        answers.add(str(denied.value))
    assert len(answers) == 1
    assert _actions(site).count("sign-in.refused") == 8


def test_every_answer_to_a_sign_in_costs_one_hash(site, monkeypatch):
    """Equal work, so equal time; a clock on a busy machine would say less."""
    make_user(site)
    checked = []
    check = site.hasher.check
    monkeypatch.setattr(site.hasher, "check", lambda *a: checked.append(a[0]) or check(*a))
    for email in (FIRST, "nobody@lab.example", "no address"):
        with pytest.raises(DeniedError):
            sessions.sign_in(site, email, OTHER, HERE)
    assert len(checked) == 3
    assert checked[1:] == [None, None]


def test_passwords_are_not_tried_out_on_one_account_or_from_one_address(site):
    make_user(site)
    for i in range(rate_limits.PASSWORD_BY_ACCOUNT.most):
        with pytest.raises(DeniedError):
            sessions.sign_in(site, FIRST, OTHER, f"198.51.100.{i}")
    for email in (FIRST, "First@LAB.example "):
        with pytest.raises(TooManyRequestsError) as told:
            sessions.sign_in(site, email, PASSWORD, "203.0.113.9")
    assert 0 < told.value.retry_after_s <= 15 * 60 + 1
    site.clock.forward(minutes=16)
    assert sessions.sign_in(site, FIRST, PASSWORD, "203.0.113.9")
    for i in range(rate_limits.PASSWORD_BY_ADDRESS.most):
        with pytest.raises(DeniedError):
            sessions.sign_in(site, f"user{i}@lab.example", OTHER, HERE)
    with pytest.raises(TooManyRequestsError):
        sessions.sign_in(site, "other@lab.example", PASSWORD, HERE)


def test_a_laboratory_that_signs_in_from_one_address_is_no_attacker(site):
    make_user(site)
    for _ in range(rate_limits.PASSWORD_BY_ADDRESS.most + 5):
        sessions.sign_in(site, FIRST, PASSWORD, HERE)


def test_a_weaker_hash_is_renewed_at_sign_in(site):
    user = make_user(site)
    stronger = replace(site, hasher=credentials.Hasher(time_cost=2, memory_kib=16, parallelism=1))
    sessions.sign_in(stronger, FIRST, PASSWORD, HERE)
    with site.database.read() as session:
        stored = users.find(session, user.id).password_hash
    assert "m=16,t=2" in stored
    assert sessions.sign_in(stronger, FIRST, PASSWORD, HERE)


def test_the_password_is_asked_again_before_a_signature(site):
    user = make_user(site)
    assert sessions.confirm_password(site, user.id, PASSWORD, HERE) is None
    for _ in range(rate_limits.PASSWORD_BY_ACCOUNT.most):
        with pytest.raises(DeniedError):
            sessions.confirm_password(site, user.id, OTHER, HERE)
    with pytest.raises(TooManyRequestsError):
        sessions.confirm_password(site, user.id, PASSWORD, HERE)


# --- second step ------------------------------------------------------------------------------------------------------


def _enrol(site, user, token: str = "") -> str:
    secret = authenticator.start(site, user.id).secret
    authenticator.confirm(site, user.id, pyotp.TOTP(secret).at(site.clock()), token)
    site.clock.forward(seconds=60)
    return secret


def _secret(site, user) -> str:
    with site.database.read() as session:
        return users.find(session, user.id).totp_secret


def _sign_in_with_code(site, user):
    ticket = sessions.sign_in(site, user.email, PASSWORD, HERE).ticket
    return sessions.second_step(site, ticket, pyotp.TOTP(_secret(site, user)).at(site.clock()), HERE)


def test_with_an_authenticator_the_password_alone_opens_nothing(site):
    user = make_user(site)
    before = sessions.sign_in(site, FIRST, PASSWORD, HERE)
    other = sessions.sign_in(site, FIRST, PASSWORD, HERE)
    secret = _enrol(site, user, before.token)
    assert (sessions.load(site, before.token).user.id, sessions.load(site, other.token)) == (user.id, None)
    needed = sessions.sign_in(site, FIRST, PASSWORD, HERE)
    assert isinstance(needed, sessions.CodeNeeded)
    assert sessions.load(site, needed.ticket) is None
    assert needed.ticket not in _everything(site)
    signed = sessions.second_step(site, needed.ticket, pyotp.TOTP(secret).at(site.clock()), HERE, before.token)
    assert sessions.load(site, signed.token).user.id == user.id
    assert sessions.load(site, before.token) is None


def test_a_code_of_the_authenticator_counts_once_also_at_the_same_moment(site):
    user = make_user(site)
    totp = pyotp.TOTP(_enrol(site, user))
    tickets = iter([sessions.sign_in(site, FIRST, PASSWORD, HERE).ticket for _ in range(5)])
    code = totp.at(site.clock())
    found = _at_once(lambda: sessions.second_step(site, next(tickets), code, HERE), 5)
    assert sorted(type(f).__name__ for f in found) == ["DeniedError"] * 4 + ["SignedIn"]
    ticket = sessions.sign_in(site, FIRST, PASSWORD, HERE).ticket
    for old in (
        code,
        totp.at(site.clock() - timedelta(seconds=30)),
    ):  # this one, and one that is earlier and still in the window
        with pytest.raises(DeniedError, match="wrong or was used"):
            sessions.second_step(site, ticket, old, HERE)
    site.clock.forward(seconds=30)
    assert sessions.second_step(site, ticket, totp.at(site.clock()), HERE)


def test_the_code_that_confirmed_the_authenticator_signs_nobody_in(site):
    user = make_user(site)
    secret = authenticator.start(site, user.id).secret
    assert authenticator.pending(site, user.id).secret == secret
    with pytest.raises(DeniedError):
        authenticator.confirm(site, user.id, "000000", "")
    code = pyotp.TOTP(secret).at(site.clock())
    authenticator.confirm(site, user.id, code, "")
    ticket = sessions.sign_in(site, FIRST, PASSWORD, HERE).ticket
    with pytest.raises(DeniedError):
        sessions.second_step(site, ticket, code, HERE)
    with pytest.raises(UsageError):
        authenticator.start(site, user.id)


def test_a_ticket_has_five_attempts_ten_minutes_and_one_use(site):
    user = make_user(site)
    totp = pyotp.TOTP(_enrol(site, user))
    ticket = sessions.sign_in(site, FIRST, PASSWORD, HERE).ticket
    wrong = "000000" if totp.at(site.clock()) != "000000" else "111111"
    for _ in range(one_time_codes.MOST_ATTEMPTS):
        with pytest.raises(DeniedError):
            sessions.second_step(site, ticket, wrong, HERE)
    with pytest.raises(DeniedError, match="attempts"):
        sessions.second_step(site, ticket, totp.at(site.clock()), HERE)
    ticket = sessions.sign_in(site, FIRST, PASSWORD, HERE).ticket
    site.clock.forward(minutes=11)
    with pytest.raises(DeniedError, match="too long"):
        sessions.second_step(site, ticket, totp.at(site.clock()), HERE)
    with pytest.raises(DeniedError):
        sessions.second_step(site, "unknown", totp.at(site.clock()), HERE)


def test_codes_are_not_tried_out_over_many_tickets(site):
    user = make_user(site)
    totp = pyotp.TOTP(_enrol(site, user))
    wrong = "000000" if totp.at(site.clock()) != "000000" else "111111"
    for i in range(rate_limits.CODE_BY_ACCOUNT.most):
        ticket = sessions.sign_in(site, FIRST, PASSWORD, f"198.51.100.{i}").ticket
        with pytest.raises(DeniedError):
            sessions.second_step(site, ticket, wrong, f"198.51.100.{i}")
    ticket = sessions.sign_in(site, FIRST, PASSWORD, HERE).ticket
    with pytest.raises(TooManyRequestsError):
        sessions.second_step(site, ticket, totp.at(site.clock()), HERE)


def test_the_second_step_goes_off_only_with_the_password(site):
    user = make_user(site)
    _enrol(site, user)
    signed = _sign_in_with_code(site, user)
    with pytest.raises(DeniedError):
        authenticator.remove(site, user.id, OTHER, HERE, signed.token)
    authenticator.remove(site, user.id, PASSWORD, HERE, signed.token)
    assert sessions.load(site, signed.token)
    assert isinstance(sessions.sign_in(site, FIRST, PASSWORD, HERE), sessions.SignedIn)


# --- tokens of the API ------------------------------------------------------------------------------------------------


def test_a_token_is_shown_once_ends_and_is_revoked_by_its_owner_alone(site):
    user, other = make_user(site), make_user(site, "bob@lab.example")
    key = api_tokens.make(site, user.id, " my\nscript ", days=30)
    assert key.text.startswith(api_tokens.PREFIX)
    assert key.text not in _everything(site)
    assert api_tokens.load(site, key.text).id == user.id
    with site.database.read() as session:
        (row,) = api_tokens.of_user(session, user.id)
    assert (row.name, row.used_at) == ("my script", site.clock())
    with pytest.raises(UsageError):
        api_tokens.revoke(site, other.id, key.id)
    api_tokens.revoke(site, user.id, key.id)
    assert api_tokens.load(site, key.text) is None
    second = api_tokens.make(site, user.id, "second", days=1)
    site.clock.forward(days=1, seconds=1)
    assert api_tokens.load(site, second.text) is None
    third = api_tokens.make(site, user.id, "third")
    users.change(site, "admin", user.id, active=False)
    for odd in (third.text, "", "x", api_tokens.PREFIX):
        assert api_tokens.load(site, odd) is None
    with pytest.raises(UsageError, match="disabled"):
        api_tokens.make(site, user.id, "fourth")
    for name, days in (("", 1), ("x", 0), ("x", 367)):
        with pytest.raises(UsageError):
            api_tokens.make(site, other.id, name, days)


# --- users and rights -------------------------------------------------------------------------------------------------


def test_the_last_administrator_stays_one_also_when_two_are_disabled_at_once(site):
    first = make_user(site, "first@lab.example", "administrator")
    entry.add_user(site, "first", "unset@lab.example", "", "administrator")  # has no password yet: does not count
    for change in ({"active": False}, {"role": "reader"}):
        with pytest.raises(UsageError, match="last administrator"):
            users.change(site, "x", first.id, **change)
    second = make_user(site, "second@lab.example", "administrator")
    ids = iter([first.id, second.id] * 3)
    found = _at_once(lambda: users.change(site, "x", next(ids), active=False))
    assert sum(isinstance(f, UsageError) for f in found) >= 1
    with site.database.read() as session:
        left = [u for u in users.everyone(session) if u.role == "administrator" and u.active and u.password_hash]
    assert len(left) == 1
    assert [a for a in _actions(site) if a == "user.disabled"] == ["user.disabled"]


def test_roles_change_are_logged_and_unknown_ones_refused(site):
    user = make_user(site)
    assert users.change(site, "root", user.id, role="reviewer").role == "reviewer"
    assert users.change(site, "root", user.id, active=False).active is False
    assert users.change(site, "root", FIRST, active=True).active is True
    with pytest.raises(UsageError, match="no such role"):
        users.change(site, "root", user.id, role="root")
    assert _actions(site) == ["user.role", "user.disabled", "user.enabled"]


def test_names_are_one_printable_line(site):
    user = make_user(site)
    assert users.rename(site, user.id, "  First\r\n \u202eReader\x00 ").name == "First Reader"
    with pytest.raises(UsageError):
        users.rename(site, user.id, "\u200b\n")
    with site.database.read() as session:
        assert [u.id for u in users.everyone(session, "FIRST R")] == [user.id]
        assert list(users.everyone(session, "%")) == []


def _person(role, id_="me", active=True):
    return SimpleNamespace(id=id_, role=role, active=active)


@pytest.mark.parametrize(
    ("who", "case", "allowed"),
    [
        ("reader", ("me", None, "open"), "see upload edit decide assign report export delete"),
        ("reader", ("x", "me", "open"), "see second report"),
        ("reader", ("x", "y", "open"), ""),
        ("reader", ("me", None, "signed"), "see report export"),
        ("reviewer", ("x", None, "open"), "see edit decide second settle assign report sign export"),
        ("reviewer", ("me", None, "open"), "see upload edit decide settle assign report sign export delete"),
        ("reviewer", ("x", "me", "open"), "see edit decide second settle report sign export"),
        ("reviewer", ("x", None, "signed"), "see report sign export"),
        ("administrator", ("x", None, "open"), "see report export delete"),
        ("administrator", ("x", None, "signed"), "see report export delete"),
        ("administrator", ("me", None, "open"), "see upload edit decide assign report export delete"),
    ],
)
def test_who_may_do_what_in_a_case(who, case, allowed):
    owner, second, state = case
    case = SimpleNamespace(owner_id=owner, second_reader_id=second, state=state)
    actions = [a for a in ACTIONS if a not in ("new", "dashboard", "see_all", "administer")]
    assert {a for a in actions if may(_person(who), a, case)} == set(allowed.split())
    assert not any(may(_person(who, active=False), a, case) or may(None, a, case) for a in actions)


@pytest.mark.parametrize(
    ("who", "allowed"),
    [("reader", "new"), ("reviewer", "new dashboard see_all"), ("administrator", "new dashboard see_all administer")],
)
def test_who_may_do_what_elsewhere(who, allowed):
    actions = ("new", "dashboard", "see_all", "administer")
    assert {a for a in actions if may(_person(who), a)} == set(allowed.split())
    assert not any(may(_person(who, active=False), a) or may(None, a) for a in actions)
    with pytest.raises(KeyError):
        may(_person(who), "see")


# --- command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run the command line in this process on a data folder of its own; its exit code, output and errors."""
    from cervicyte.cli import main as cli
    from cervicyte.web.base import site as site_module

    monkeypatch.setenv("CERVICYTE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(site_module, "Hasher", cheap)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["cervicyte", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    run.folder = tmp_path / "data"
    return run


def test_users_are_looked_after_from_the_command_line(command):
    code, link, said = command("users", "add", FIRST, "--role", "administrator", "--name", "First R.")
    assert (code, "hand it over to first@lab.example" in said) == (0, True)
    site = make_site(command.folder)
    entry.reset_by_link(site, _token(link.strip()), PASSWORD)
    code, table, _ = command("users", "list")
    assert (code, "administrator" in table, "First R." in table) == (0, True, True)
    assert command("users", "disable", FIRST)[0] == 2
    assert command("users", "add", "bob@lab.example")[0] == 0
    assert command("users", "disable", "bob@lab.example")[0] == 0
    assert command("users", "reset", "bob@lab.example")[0] == 2
    assert command("users", "enable", "bob@lab.example")[0] == 0
    assert "/reset/" in command("users", "reset", "bob@lab.example")[1]
    assert command("users", "add", "bob@lab.example")[0] == 2
    assert command("users", "add", "eve@lab.example", "--role", "root")[0] == 2
    code, said, _ = command("audit-log", "verify")
    assert (code, "all as they were written" in said) == (0, True)
    from sqlalchemy import text

    with site.database.write() as session:
        session.execute(text("UPDATE audit SET actor = 'nobody' WHERE id = 2"))
    code, _, said = command("audit-log", "verify")
    assert (code, "row 2 was changed" in said) == (4, True)
    site.database.close()
