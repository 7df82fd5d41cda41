from .evidence import Explanation as Explanation
from .explainer import Explainer as Explainer
from .explainer import explain as explain
