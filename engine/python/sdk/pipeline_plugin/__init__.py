"""Stages of a pipeline, written in Python.

A plugin is one ``.py`` file (or a folder with ``__init__.py``) with classes that derive from

``Detector``
    scores the readings of one series; the simplest form, some 100,000 readings a second.
``BatchDetector``
    scores whole batches with NumPy; some million readings a second.
``Transform``
    turns rows into rows, as ``pyarrow.RecordBatch``.
``Source``
    gives rows.
``Sink``
    takes the rows of whole epochs.
``Outbox``
    takes single rows, such as alerts, to a slow or failing other side.

Name the file under ``plugins:`` in a pipeline file, and its classes are stages like those that are built in. The
engine finds series, keeps state, restarts after a crash; the classes that compute are pure: no clock, no randomness, no
I/O, because after a crash the same rows must give the same scores again.

Options are class attributes with ``option``; the class's docstring is the stage's documentation::

    class Jump(Detector):
        \"\"\"Finds readings that are far from the one before.\"\"\"

        limit: float = option(10.0, "How far is too far, in the unit of the value.", above=0)

``print`` and ``logging`` go to the engine's log. What goes wrong is raised: ``ConfigError`` in ``setup``, and while
rows are read ``DataError``, ``TransientError`` or ``FatalError``; any other exception ends the run at its last commit,
and its traceback is shown.
"""

from .batch import BatchDetector, Groups, Scores, State, group
from .detector import Detector, Reading, Score
from .errors import ConfigError, DataError, FatalError, LostError, PluginError, TransientError
from .options import option
from .sink import Epoch, Mark, Outbox, Owner, Sink
from .source import Rows, Source
from .stage import Context
from .transform import Output, Transform

__all__ = [
    "BatchDetector",
    "ConfigError",
    "Context",
    "DataError",
    "Detector",
    "Epoch",
    "FatalError",
    "Groups",
    "LostError",
    "Mark",
    "Outbox",
    "Output",
    "Owner",
    "PluginError",
    "Reading",
    "Rows",
    "Score",
    "Scores",
    "Sink",
    "Source",
    "State",
    "Transform",
    "TransientError",
    "group",
    "option",
]
__version__ = "0.1.0"
