package scim
import ("testing";"strings";"time";"runtime";"fmt")
func TestZZ(t *testing.T){
 rep:=func(unit string) []byte { n:=(256<<10-20)/(len(unit)+1); return []byte(`{"a":[`+strings.Repeat(unit+",",n-1)+unit+`]}`)}
 mem:=func(n int) []byte { var b strings.Builder; b.WriteString(`{`); for i:=range n { if i>0 {b.WriteByte(',')}; fmt.Fprintf(&b,`"x%d":1`,i)}; b.WriteByte('}'); return []byte(b.String())}
 mem17:=func() []byte { var u strings.Builder; u.WriteString("{"); for i:=range 17 { if i>0 {u.WriteByte(',')}; fmt.Fprintf(&u,`"%c":0`,'a'+i)}; u.WriteString("}"); return rep(u.String())}
 deep:= strings.Repeat(`{"":`,29)+`0`+strings.Repeat(`}`,29)
 for name,b:=range map[string][]byte{"obj1":rep(`{"":0}`),"objs":rep(`{"value":"x"}`),"[]":rep(`[]`),"{}":rep(`{}`),"0":rep("0"),"str":rep(`""`),"str1":rep(`"a"`),"deep":rep(deep),"mem":mem(26000),"mem17":mem17(),"esc":rep(`"\u0041"`),"num":rep("1e300")}{
  var best time.Duration=time.Hour; var alloc uint64
  for range 5 { var m1,m2 runtime.MemStats; runtime.ReadMemStats(&m1); s:=time.Now(); _,err:=DecodeObject(b); d:=time.Since(s); runtime.ReadMemStats(&m2); best=min(best,d); alloc=m2.TotalAlloc-m1.TotalAlloc; if err!=nil {fmt.Println(err)} }
  fmt.Println(name,len(b),best,alloc>>10,"KiB")
 }
}
