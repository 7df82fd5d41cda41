from .checks import Audit as Audit
from .checks import Finding as Finding
from .checks import audit as audit
from .page import write_audit as write_audit
