from .compression import compress as compress
from .folder import Bundle as Bundle, save_bundle as save_bundle
from .manifest import Manifest as Manifest
from .predictions import Prediction as Prediction, write_predictions as write_predictions
