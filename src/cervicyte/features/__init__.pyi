from .cache import FeatureCache as FeatureCache
from .extraction import extract as extract
from .extraction import make_extractor as make_extractor
from .extraction import stream as stream
