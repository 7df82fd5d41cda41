"""Make the sites of the web application in sites/: run it only to add one, never to bring a test to green.

    python tests/artefacts/make_site.py REPOSITORY

REPOSITORY is a clone of this one; the sites are made by the source and the test helpers of commit `COMMIT`, one on
SQLite and one on a PostgreSQL that is started for it. A site is made again only where its folder is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

#: The last build that read the retention policy and the end of a blinded reading from the audit log.
COMMIT = "b4c2511"

#: Run by that build with the site's folder and the address of its database.
STORY = """
import json, sys
from pathlib import Path

from cervicyte.web import intake, removal, reports, reviews, tokens, upkeep
from cervicyte.web.blinding import goes_on, stands
from cervicyte.web.schema import Case, Image, PredictionRow, Report, Review, User
from sqlalchemy import select
from web_records import give_second, make_case, png
from web_site import make_site, make_user

site = make_site(Path(sys.argv[1]), url=sys.argv[2])
tick = lambda: site.clock.forward(minutes=7)

owner = make_user(site, "owner@lab.example")
second = make_user(site, "second@lab.example")
reviewer = make_user(site, "reviewer@lab.example", "reviewer")
administrator = make_user(site, "administrator@lab.example", "administrator")
tokens.make(site, owner.id, "a program")
upkeep.set_retention(site, administrator, 400)
tick()


def read(user, images, *verdicts):
    for image, verdict in zip(images, verdicts, strict=True):
        reviews.decide(site, user, image, verdict, f"{verdict}, by {user.email}")
        tick()


# Signed, opened again and signed again.
case, images = make_case(site, owner, [0.9, 0.5, 0.1], "signed")
read(owner, images, "HSIL", "LSIL", "NILM")
reports.sign(site, reviewer, case.number, "High grade.")
tick()
reports.reopen(site, reviewer, case.number, "a second look")
read(owner, images[:1], "SCC")
reports.sign(site, reviewer, case.number, "Carcinoma.", "read again")

# A blinded reading that was completed twice; one more picture came after that.
case, images = make_case(site, owner, [0.8, 0.2], "twice")
give_second(site, owner, case, second)
read(owner, images, "HSIL", "NILM")
read(second, images, "ASC-H", "NILM")
for seed, verdict in ((90, "LSIL"), (91, None)):
    intake.upload(site, owner, case.number, [(f"later-{seed}.png", png(seed))])
    tick()
    if verdict:
        with site.database.read() as session:
            later = session.scalars(select(Image.id).where(Image.name == f"later-{seed}.png")).all()
        read(owner, later, verdict)
        read(second, later, verdict)
with site.database.read() as session:
    later = session.scalars(select(Image.id).where(Image.name == "later-91.png")).all()
read(owner, later, "NILM")  # it does not stand: it can be changed until the second reader has decided too

# A blinded reading that goes on.
case, images = make_case(site, owner, [0.7, 0.3], "open")
give_second(site, owner, case, second)
read(owner, images, "HSIL", "ASC-US")
read(second, images[:1], "LSIL")

# Not blinded; the two readers differed and a reviewer settled it.
case, images = make_case(site, owner, [0.6], "settled")
give_second(site, owner, case, second, blinded=False)
read(owner, images, "HSIL")
read(second, images, "NILM")
reviews.settle(site, reviewer, images[0], "LSIL", "between the two")
tick()

# A blinded reading that was completed, of a case that was deleted: only the audit log knows of it.
case, images = make_case(site, owner, [0.4], "deleted")
give_second(site, owner, case, second)
read(owner, images, "LSIL")
read(second, images, "LSIL")
removal.delete(site, owner, case.number, case.number)
upkeep.set_retention(site, administrator, 200)

people = {"owner": owner, "second": second}
with site.database.read() as session:
    told = {"retention_days": upkeep.retention_days(session), "cases": {}}
    emails = dict(session.execute(select(User.id, User.email)).all())
    told["users"] = [list(row) for row in session.execute(select(User.email, User.role).order_by(User.email))]
    for case in session.scalars(select(Case).order_by(Case.created_at, Case.number)):
        row = {"number": case.number, "state": case.state, "goes_on": goes_on(session, case)}
        pictures = session.scalars(select(Image).where(Image.case_id == case.id).order_by(Image.position)).all()
        row["images"] = [[i.name, i.sha256, i.state] for i in pictures]
        said = select(PredictionRow.label, PredictionRow.p_abnormal).join(Image, Image.id == PredictionRow.image_id)
        row["predictions"] = [
            list(r) for r in session.execute(said.where(Image.case_id == case.id).order_by(PredictionRow.id))
        ]
        given = session.execute(
            select(Review, Image.name).join(Image, Image.id == Review.image_id)
            .where(Image.case_id == case.id).order_by(Review.id)
        ).all()
        row["verdicts"] = [[n, emails[r.reader_id], r.reading, r.verdict, r.agrees, r.comment] for r, n in given]
        row["stands"] = {
            name: [stands(session, user, case, r.id) for r, _ in given if r.reader_id == user.id]
            for name, user in people.items()
        }
        signed = session.scalars(select(Report).where(Report.case_id == case.id).order_by(Report.version)).all()
        row["reports"] = [[r.version, r.sha256, r.body["conclusion"], r.reason] for r in signed]
        view = reports.view(session, reviewer, case.number, site.clock()) if signed else None
        row["problem"] = view.problem if view else None
        told["cases"][pictures[0].name.split("-")[0]] = row
verified = site.ledger.verify(site.database)
assert verified.ok, verified
told["audit"] = {"rows": verified.rows, "head": verified.head}
(site.data_dir / "expected.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + chr(10), encoding="utf-8")
site.database.close()
"""


def main(repository: Path) -> None:
    """Make what is missing."""
    sys.path.insert(0, str(HERE.parent))
    from support.web.databases import running

    with tempfile.TemporaryDirectory() as scratch:
        archive = subprocess.run(
            ["git", "archive", COMMIT, "src", "tests"], cwd=repository, check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", scratch], input=archive.stdout, check=True)

        def tell(folder: Path, url: str) -> None:
            path = os.pathsep.join(str(Path(scratch) / part) for part in ("src", "tests"))
            subprocess.run(
                [sys.executable, "-c", STORY, folder, url],
                check=True,
                cwd=scratch,
                env=os.environ | {"PYTHONPATH": path},
            )

        if not (folder := HERE / "sites" / "sqlite").exists():
            tell(folder, "")
        if not (folder := HERE / "sites" / "postgresql").exists():
            with running() as server, server.database(empty=True) as url:
                tell(folder, url)
                dump = subprocess.run(
                    [server.programs / "pg_dump", "--inserts", "--no-owner", "--no-privileges", url],
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                ).stdout
            # What psql alone understands, or only the version that wrote it.
            lines = [x for x in dump.splitlines() if not x.startswith(("\\", "SET transaction_timeout"))]
            (folder / "database.sql").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
