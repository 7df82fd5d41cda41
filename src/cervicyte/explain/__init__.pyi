from .drawing import overlay as overlay, write_png as write_png
from .evidence import Explanation as Explanation
from .explainer import Explainer as Explainer, explain as explain
