"""nbgrader's settings for these assignments: run nbgrader's commands in this folder, or in your copy of it."""

import os
from pathlib import Path

from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbgrader.preprocessors import ClearHiddenTests, GetGrades

try:
    import tinynet  # noqa: F401  (the hidden tests need tinynet.grading in nbgrader's own environment)
except ImportError:
    raise SystemExit('nbgrader runs outside of tinynet\'s environment: pip install -e ".[teach]" in a clone') from None

# Neither progress bars nor notices in the students' feedback, and nothing to compile.
os.environ.update(TINYNET_BACKEND="numpy", TINYNET_PROGRESS="0", TINYNET_QUIET="1", MPLBACKEND="Agg")

c = get_config()  # noqa: F821
c.CourseDirectory.root = str(Path(__file__).resolve().parent)
# nbgrader copies what lies beside a source into the folder where it runs the student's code: not the solutions.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "*.py"]
c.Execute.timeout = 60  # seconds for one cell
# nbgrader's own feedback shows students the hidden tests in full; here they see them no more than their errors quote.
c.GenerateFeedback.preprocessors = [GetGrades, ClearHiddenTests, CSSHTMLHeaderPreprocessor]
