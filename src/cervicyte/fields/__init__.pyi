from .crops import cut as cut
from .nuclei import find_nuclei as find_nuclei
