from .checks import Audit as Audit, Finding as Finding, audit as audit
from .page import write_audit as write_audit
