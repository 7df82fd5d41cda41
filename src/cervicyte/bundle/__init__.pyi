from .compression import compress as compress
from .folder import Bundle as Bundle
from .folder import save_bundle as save_bundle
from .manifest import Manifest as Manifest
from .predictions import Prediction as Prediction
from .predictions import write_predictions as write_predictions
