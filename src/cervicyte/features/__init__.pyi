from .cache import FeatureCache as FeatureCache
from .extraction import extract as extract, make_extractor as make_extractor, stream as stream
