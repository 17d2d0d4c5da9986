#include "kit.h"

static const char put_and_conditions[] =
    "put a 1\n"
    "|put a=1 @2.1 c2 v1\n"
    "|@2 yes n=1\n"
    "put a 1\n"
    "|put a=1 @3.1 c2 v2 was2\n"
    "|@3 yes n=1\n"
    "put a 2 nx\n"
    "|@3 no prev(a=1 c2 m3 v2)\n"
    "put b 1 nx\n"
    "|put b=1 @4.1 c4 v1\n"
    "|@4 yes n=1\n"
    "put b 2 xx\n"
    "|put b=2 @5.1 c4 v2 was4\n"
    "|@5 yes n=1\n"
    "put c 1 xx\n"
    "|@5 no\n"
    "put a 3 eq 1\n"
    "|put a=3 @6.1 c2 v3 was3\n"
    "|@6 yes n=1\n"
    "put a 3 eq 9\n"
    "|@6 no prev(a=3 c2 m6 v3)\n"
    "put c 1 eq 1\n"
    "|@6 no\n"
    "put a 4 ne 3\n"
    "|@6 no prev(a=3 c2 m6 v3)\n"
    "put a 5 ne 3\n"
    "|@6 no prev(a=3 c2 m6 v3)\n"
    "put c 1 ne 1\n"
    "|put c=1 @7.1 c7 v1\n"
    "|@7 yes n=1\n"
    "put d 1 mod 0\n"
    "|put d=1 @8.1 c8 v1\n"
    "|@8 yes n=1\n"
    "put d 2 mod 0\n"
    "|@8 no prev(d=1 c8 m8 v1)\n"
    "put d 2 mod 8\n"
    "|put d=2 @9.1 c8 v2 was8\n"
    "|@9 yes n=1\n"
    "put d 3 mod 8\n"
    "|@9 no prev(d=2 c8 m9 v2)\n"
    "put d 3 prev\n"
    "|put d=3 @10.1 c8 v3 was9\n"
    "|@10 yes n=1 prev(d=2 c8 m9 v2)\n"
    "put e 1 prev\n"
    "|put e=1 @11.1 c11 v1\n"
    "|@11 yes n=1\n"
    "put '' empty\n"
    "|put =empty @12.1 c12 v1\n"
    "|@12 yes n=1\n"
    "put e 2 nx prev\n"
    "|@12 no prev(e=1 c11 m11 v1)\n";

static const char fence[] =
    "put lock me\n"
    "|put lock=me @2.1 c2 v1\n"
    "|@2 yes n=1\n"
    "put a 1 fence lock 2\n"
    "|put a=1 @3.1 c3 v1\n"
    "|@3 yes n=1\n"
    "put a 2 fence lock 3\n"
    "|@3 ERR_FENCED no\n"
    "put a 2 fence nolock 2\n"
    "|@3 ERR_FENCED no\n"
    "put lock me\n"
    "|put lock=me @4.1 c2 v2 was2\n"
    "|@4 yes n=1\n"
    "put a 3 fence lock 2\n"
    "|put a=3 @5.1 c3 v2 was3\n"
    "|@5 yes n=1\n"
    "del lock\n"
    "|del lock @6.1 was4\n"
    "|@6 yes n=1\n"
    "put a 4 fence lock 2\n"
    "|@6 ERR_FENCED no\n"
    "put lock you\n"
    "|put lock=you @7.1 c7 v1\n"
    "|@7 yes n=1\n"
    "put a 4 fence lock 2\n"
    "|@7 ERR_FENCED no\n"
    "put a 4 fence lock 7\n"
    "|put a=4 @8.1 c3 v3 was5\n"
    "|@8 yes n=1\n"
    "txn { } { put a 5 fence lock 7 } { }\n"
    "| [0] @9 yes n=1\n"
    "|put a=5 @9.1 c3 v4 was8\n"
    "|@9 yes\n"
    "txn { } { put a 6 ; put b 1 fence lock 2 } { }\n"
    "| [0] @10 yes n=1\n"
    "|@9 ERR_FENCED no\n"
    "del a fence lock 2\n"
    "|@9 ERR_FENCED no\n"
    "del a fence lock 7\n"
    "|del a @10.1 was9\n"
    "|@10 yes n=1\n";

static const char keep_value[] =
    "put a keepvalue\n"
    "|@1 ERR_KEY_NOT_FOUND no\n"
    "put a 1 mustexist\n"
    "|@1 ERR_KEY_NOT_FOUND no\n"
    "put a 1 ttl 100\n"
    "|put a=1 @2.1 c2 v1\n"
    "|@2 yes n=1\n"
    "put a keepvalue keep\n"
    "|put a=1 @3.1 c2 v2 was2\n"
    "|@3 yes n=1\n"
    "put a keepvalue\n"
    "|put a=1 @4.1 c2 v3 was3\n"
    "|@4 yes n=1\n"
    "put a 2 mustexist prev\n"
    "|put a=2 @5.1 c2 v4 was4\n"
    "|@5 yes n=1 prev(a=1 c2 m4 v3)\n"
    "put a keepvalue prev kv\n"
    "|put a=2 @6.1 c2 v5 was5\n"
    "|@6 yes n=1 prev(a=2 c2 m5 v4)\n";

static const char incr[] =
    "incr a 5\n"
    "|put a=5 @2.1 c2 v1\n"
    "|@2 yes n=5\n"
    "incr a -7\n"
    "|put a=-2 @3.1 c2 v2 was2\n"
    "|@3 yes n=-2\n"
    "incr a -9223372036854775806\n"
    "|put a=-9223372036854775808 @4.1 c2 v3 was3\n"
    "|@4 yes n=-9223372036854775808\n"
    "incr a -1\n"
    "|@4 ERR_OVERFLOW no\n"
    "put b 9223372036854775807\n"
    "|put b=9223372036854775807 @5.1 c5 v1\n"
    "|@5 yes n=1\n"
    "incr b 1\n"
    "|@5 ERR_OVERFLOW no\n"
    "incr b 0\n"
    "|put b=9223372036854775807 @6.1 c5 v2 was5\n"
    "|@6 yes n=9223372036854775807\n"
    "put c text\n"
    "|put c=text @7.1 c7 v1\n"
    "|@7 yes n=1\n"
    "incr c 1\n"
    "|@7 ERR_NOT_INT no\n"
    "put d 007\n"
    "|put d=007 @8.1 c8 v1\n"
    "|@8 yes n=1\n"
    "incr d 1\n"
    "|@8 ERR_NOT_INT no\n"
    "put e ''\n"
    "|put e= @9.1 c9 v1\n"
    "|@9 yes n=1\n"
    "incr e 1\n"
    "|@9 ERR_NOT_INT no\n"
    "put f 10 ttl 500\n"
    "|put f=10 @10.1 c10 v1\n"
    "|@10 yes n=1\n"
    "incr f 1\n"
    "|put f=11 @11.1 c10 v2 was10\n"
    "|@11 yes n=11\n"
    "life f drop\n"
    "|~persist f\n"
    "|@11 yes n=1\n";

static const char incr_float[] =
    "incrfloat a 10.5\n"
    "|put a=10.5 @2.1 c2 v1\n"
    "|@2 yes n=4\n"
    "incrfloat a 0.1\n"
    "|put a=10.6 @3.1 c2 v2 was2\n"
    "|@3 yes n=4\n"
    "incrfloat a -1.06e1\n"
    "|put a=0 @4.1 c2 v3 was3\n"
    "|@4 yes n=1\n"
    "incrfloat a text\n"
    "|@4 ERR_NOT_FLOAT no\n"
    "incrfloat a inf\n"
    "|@4 ERR_NAN no\n"
    "put b text ttl 500\n"
    "|put b=text @5.1 c5 v1\n"
    "|@5 yes n=1\n"
    "incrfloat b 1\n"
    "|@5 ERR_NOT_FLOAT no\n"
    "put b 1 keep\n"
    "|put b=1 @6.1 c5 v2 was5\n"
    "|@6 yes n=1\n"
    "txn redis { } { incrfloat b 1 ; incrfloat b x ; incrfloat b .5 } { }\n"
    "| [0] @7 yes n=1\n"
    "| [1] @7 ERR_NOT_FLOAT no\n"
    "| [2] @7 yes n=3\n"
    "|put b=2.5 @7.1 c5 v3 was6\n"
    "|@7 yes\n";

static const char append_setrange[] =
    "append a xy\n"
    "|put a=xy @2.1 c2 v1\n"
    "|@2 yes n=2\n"
    "append a z\n"
    "|put a=xyz @3.1 c2 v2 was2\n"
    "|@3 yes n=3\n"
    "append b ''\n"
    "|put b= @4.1 c4 v1\n"
    "|@4 yes\n"
    "append a ''\n"
    "|put a=xyz @5.1 c2 v3 was3\n"
    "|@5 yes n=3\n"
    "setrange a 1 QQ\n"
    "|put a=xQQ @6.1 c2 v4 was5\n"
    "|@6 yes n=3\n"
    "setrange a 5 W\n"
    "|put a=xQQ\\00\\00W @7.1 c2 v5 was6\n"
    "|@7 yes n=6\n"
    "setrange c 2 ab\n"
    "|put c=\\00\\00ab @8.1 c8 v1\n"
    "|@8 yes n=4\n"
    "setrange c 0 ''\n"
    "|@8 no n=4\n"
    "setrange d 9 ''\n"
    "|@8 no\n"
    "setrange a -1 x\n"
    "|@8 ERR_OFFSET no\n"
    "setrange d -1 ''\n"
    "|@8 ERR_OFFSET no\n"
    "put t 1 ttl 50\n"
    "|put t=1 @9.1 c9 v1\n"
    "|@9 yes n=1\n"
    "append t 2\n"
    "|put t=12 @10.1 c9 v2 was9\n"
    "|@10 yes n=2\n"
    "setrange t 0 9\n"
    "|put t=92 @11.1 c9 v3 was10\n"
    "|@11 yes n=2\n"
    "life t drop\n"
    "|~persist t\n"
    "|@11 yes n=1\n"
    "setrange a 1048576 x\n"
    "|@11 ERR_STRING_LIMIT no\n";

static const char mput[] =
    "mput a=1 b=2 c=3\n"
    "|put a=1 @2.1 c2 v1\n"
    "|put b=2 @2.2 c2 v1\n"
    "|put c=3 @2.3 c2 v1\n"
    "|@2 yes n=1\n"
    "mput a=2 a=3 b=9\n"
    "|put a=3 @3.1 c2 v2 was2\n"
    "|put b=9 @3.2 c2 v2 was2\n"
    "|@3 yes n=1\n"
    "mput d=1 a=1 nx\n"
    "|@3 no\n"
    "mput d=1 e=1 nx\n"
    "|put d=1 @4.1 c4 v1\n"
    "|put e=1 @4.2 c4 v1\n"
    "|@4 yes n=1\n"
    "mput a=1 z=1 xx\n"
    "|@4 no\n"
    "mput a=7 b=8 xx\n"
    "|put a=7 @5.1 c2 v3 was3\n"
    "|put b=8 @5.2 c2 v3 was3\n"
    "|@5 yes n=1\n"
    "mput x=1 y=2 ttl 100\n"
    "|put x=1 @6.1 c6 v1\n"
    "|put y=2 @6.2 c6 v1\n"
    "|@6 yes n=1\n"
    "mput x=1 y=2 keep\n"
    "|put x=1 @7.1 c6 v2 was6\n"
    "|put y=2 @7.2 c6 v2 was6\n"
    "|@7 yes n=1\n"
    "mput y=3 w=1 keep\n"
    "|put y=3 @8.1 c6 v3 was7\n"
    "|put w=1 @8.2 c8 v1\n"
    "|@8 yes n=1\n"
    "mput y=3 w=1 at 1\n"
    "|del y @9.1 was8\n"
    "|del w @9.2 was8\n"
    "|@9 yes n=1\n"
    "mput q=1 lease 5\n"
    "|@9 ERR_NOLEASE no\n";

static const char seq[] =
    "seq q/ one\n"
    "|put q/00000000000000020000=one @2.1 c2 v1\n"
    "|@2 yes key=q/00000000000000020000\n"
    "seq q/ two\n"
    "|put q/00000000000000030000=two @3.1 c3 v1\n"
    "|@3 yes key=q/00000000000000030000\n"
    "txn { } { seq q/ three ; seq q/ four ; seq r/ x } { }\n"
    "| [0] @4 yes key=q/00000000000000040000\n"
    "| [1] @4 yes key=q/00000000000000040001\n"
    "| [2] @4 yes key=r/00000000000000040002\n"
    "|put q/00000000000000040000=three @4.1 c4 v1\n"
    "|put q/00000000000000040001=four @4.2 c4 v1\n"
    "|put r/00000000000000040002=x @4.3 c4 v1\n"
    "|@4 yes\n"
    "put r/00000000000000060000 taken\n"
    "|put r/00000000000000060000=taken @5.1 c5 v1\n"
    "|@5 yes n=1\n"
    "seq r/ over\n"
    "|put r/00000000000000060001=over @6.1 c6 v1\n"
    "|@6 yes key=r/00000000000000060001\n"
    "grant 1000 id 9\n"
    "|@6 yes n=1 id=9 ttl=1000\n"
    "seq q/ leased lease 9\n"
    "|put q/00000000000000070000=leased @7.1 c7 v1 L9\n"
    "|@7 yes key=q/00000000000000070000\n"
    "seq q/ no lease 8\n"
    "|@7 ERR_NOLEASE no\n"
    "txn { } { local } { }\n"
    "| [0] @7 yes sees(q/00000000000000020000=one c2 m2 v1) sees(q/00000000000000030000=two"
      " c3 m3 v1) sees(q/00000000000000040000=three c4 m4 v1) sees(q/00000000000000040001=four"
      " c4 m4 v1) sees(q/00000000000000070000=leased c7 m7 v1 L9 d2000 u501000 i7)"
      " sees(r/00000000000000040002=x c4 m4 v1) sees(r/00000000000000060000=taken c5 m5 v1)"
      " sees(r/00000000000000060001=over c6 m6 v1)\n"
    "|@7 yes\n";

static const char other_types[] =
    "hash h\n"
    "append h x\n"
    "|@2 ERR_WRONGTYPE no\n"
    "incr h 1\n"
    "|@2 ERR_WRONGTYPE no\n"
    "setrange h 0 x\n"
    "|@2 ERR_WRONGTYPE no\n"
    "put h 1 eq fields\n"
    "|@2 ERR_WRONGTYPE no\n"
    "put h 1 ne fields\n"
    "|@2 ERR_WRONGTYPE no\n"
    "put h 1 prev\n"
    "|@2 ERR_WRONGTYPE no\n"
    "put h 1 eq fields kv\n"
    "|@2 no prev(h=fields c2 m2 v1)\n"
    "put h 1 ne x kv\n"
    "|@2 no prev(h=fields c2 m2 v1)\n"
    "del h eq fields\n"
    "|@2 ERR_WRONGTYPE no\n"
    "del h ne x\n"
    "|@2 ERR_WRONGTYPE no\n"
    "del h prev\n"
    "|@2 ERR_WRONGTYPE no\n"
    "del h ne x kv\n"
    "|@2 no prev(h=fields c2 m2 v1)\n"
    "life h ttl 100 prev\n"
    "|@2 ERR_WRONGTYPE no\n"
    "life h ttl 100\n"
    "|~expire h\n"
    "|@2 yes n=1\n"
    "copy h h2\n"
    "|put h2=fields @3.1 c3 v1\n"
    "|@3 yes n=1\n"
    "rename h2 h3\n"
    "|del h2 @4.1 was3\n"
    "|put h3=fields @4.2 c4 v1\n"
    "|@4 yes n=1\n"
    "txn { value h = fields } { } { }\n"
    "|@4 no failed[0] found(h=fields c2 m2 v1 d1100 u500100 i14)\n"
    "txn { value h != x ; exists h } { } { }\n"
    "|@4 no failed[0] found(h=fields c2 m2 v1 d1100 u500100 i14)\n"
    "txn { exists h } { local } { }\n"
    "| [0] @4 yes sees(h=fields c2 m2 v1 d1100 u500100 i14) sees(h3=fields c4 m4 v1 d1100"
      " u500100 i16)\n"
    "|@4 yes\n"
    "txn { } { local h } { }\n"
    "|@4 ERR_WRONGTYPE no\n"
    "txn redis { } { local h ; incr h 1 ; append h 1 ; local h kv ; rename h h4 ; copy h4 h5"
      " ; put h5 s prev kv ; append h5 t } { }\n"
    "| [0] @4 ERR_WRONGTYPE no\n"
    "| [1] @4 ERR_WRONGTYPE no\n"
    "| [2] @4 ERR_WRONGTYPE no\n"
    "| [3] @4 yes sees(h=fields c2 m2 v1 d1100 u500100 i14)\n"
    "| [4] @5 yes n=1\n"
    "| [5] @5 yes n=1\n"
    "| [6] @5 yes n=1 prev(h5=fields c5 m5 v1 d1100 u500100 i21)\n"
    "| [7] @5 yes n=2\n"
    "|del h @5.1 was2\n"
    "|put h4=fields @5.2 c5 v1\n"
    "|put h5=st @5.3 c5 v1\n"
    "|@5 yes\n"
    "put h4 s mod 1\n"
    "|@5 no prev(h4=fields c5 m5 v1 d1100 u500100 i21)\n"
    "put h4 keepvalue kv\n"
    "|put h4=fields @6.1 c5 v2 was5\n"
    "|@6 yes n=1\n"
    "put h4 s\n"
    "|put h4=s @7.1 c5 v3 was6\n"
    "|@7 yes n=1\n"
    "hash g\n"
    "put g 1 prev kv\n"
    "|put g=1 @9.1 c8 v2 was8\n"
    "|@9 yes n=1 prev(g=fields c8 m8 v1)\n"
    "hash g2\n"
    "del g2 prev kv\n"
    "|del g2 @11.1 was10\n"
    "|@11 yes n=1 prev(g2=fields c10 m10 v1) prevs(g2=fields c10 m10 v1)\n";

static void test_put_and_conditions(void **unused)
{
    (void)unused;
    run_script("put_and_conditions", put_and_conditions);
}

static void test_fence(void **unused)
{
    (void)unused;
    run_script("fence", fence);
}

static void test_keep_value(void **unused)
{
    (void)unused;
    run_script("keep_value", keep_value);
}

static void test_incr(void **unused)
{
    (void)unused;
    run_script("incr", incr);
    run_script("incr_float", incr_float);
}

static void test_append_setrange(void **unused)
{
    (void)unused;
    run_script("append_setrange", append_setrange);
}

static void test_mput(void **unused)
{
    (void)unused;
    run_script("mput", mput);
}

static void test_seq(void **unused)
{
    (void)unused;
    run_script("seq", seq);
}

static void test_other_types(void **unused)
{
    (void)unused;
    run_script("other_types", other_types);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_conditions),
        cmocka_unit_test(test_fence),
        cmocka_unit_test(test_keep_value),
        cmocka_unit_test(test_incr),
        cmocka_unit_test(test_append_setrange),
        cmocka_unit_test(test_mput),
        cmocka_unit_test(test_seq),
        cmocka_unit_test(test_other_types),
    };
    return cmocka_run_group_tests_name("state/state_apply_string", tests, NULL, NULL);
}
