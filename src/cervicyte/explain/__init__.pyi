from .drawing import overlay as overlay
from .drawing import write_png as write_png
from .evidence import Explanation as Explanation
from .explainer import Explainer as Explainer
from .explainer import explain as explain
