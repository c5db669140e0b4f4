"""Programs that know nothing of echoframe.

Each serves at a port that the kernel chooses. / answers at once, and /slow takes 0.3 s; it
says "begun" before.
"""
