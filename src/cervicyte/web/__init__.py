"""The web application: `cervicyte serve`. It needs the extra `web`; the rest of the package never imports it.

Modules from bottom to top: `schema` and `database` keep everything, `image_store` the images, `audit_log` what was
done; `secrets`, `mail`, `limits`, `codes` and `accounts` let people in; see docs/architecture.md for the rest.
"""
