"""Detectors: what a series of samples says, beyond its newest value.

One shape for all (`shape.Detector`): fed one series' (time, value) pairs in the order in which
they arrive, each answers Tripped, Clear or Unknown with a score and a sentence. All of them are
pure, streaming, and of fixed size per series.

    template = Ewma(limit=6, least=50, half_life=1800)     parameters, checked here
    one = template.fresh()                                 one series' memory
    one.feed(at, value)                                    a Finding
    one.past(every)                                        what to feed it after a restart

`HardLimit` is the one that may stop a model alone; what the others may do is in `alone`.
"""

from killswitch.core.detectors.alone import Vote, refuse_lone_detectors, safe_alone
from killswitch.core.detectors.deviations import Cusum, Ewma, RobustZ, Seasonal
from killswitch.core.detectors.limits import Absence, HardLimit, Rate
from killswitch.core.detectors.shape import Detector, Finding, Kind, Past, Side

__all__ = [
    "Absence",
    "Cusum",
    "Detector",
    "Ewma",
    "Finding",
    "HardLimit",
    "Kind",
    "Past",
    "Rate",
    "RobustZ",
    "Seasonal",
    "Side",
    "Vote",
    "refuse_lone_detectors",
    "safe_alone",
]
