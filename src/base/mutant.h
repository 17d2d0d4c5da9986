/* base/mutant.h - planted bugs: each proves that some test would see such a mistake.
 *
 * PURPOSE  MUTANT(NAME) is constant false, so that nothing of it is left, unless this file is compiled
 *          with -DCORDIS_MUTANT_NAME=1. Does not list them: see tests/mutants.
 * OWNS     Nothing.
 * USES     Nothing.
 * THREADS  Any.
 * LIMITS   None.
 * ERRORS   None.
 */
#ifndef BASE_MUTANT_H
#define BASE_MUTANT_H

/* A word that is 1 becomes two arguments, any other stays one. */
#define MUTANT_SHIFT_1 0,
#define MUTANT_SECOND(ignored, value, ...) value
#define MUTANT_PICK(shifted) MUTANT_SECOND(shifted 1, 0, 0)
#define MUTANT_TRY(value) MUTANT_PICK(MUTANT_SHIFT_##value)
#define MUTANT_VALUE(macro) MUTANT_TRY(macro)
#define MUTANT(name) MUTANT_VALUE(CORDIS_MUTANT_##name)

#endif
